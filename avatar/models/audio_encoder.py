"""Speech to audio tokens on the video clock: hidden states of a speech network, a window of frames, a projection.

The recipe is Hallo's, which follows EMO: the outputs of all transformer layers of wav2vec 2.0 (12 x 768 for the base
model), the frame's own and those of two frames on each side, two hidden layers of 512, then T tokens. Unlike Hallo the
transformer runs at its own 50 states a second, as it was trained, and its outputs are interpolated at the middle of
each video frame. WavLM works the same way. The "mel" front end is ours: log-mel bands and no network to download.

A recording is cut into fixed blocks of frames, each computed with `context_s` of sound on both sides. The cut does not
depend on how the sound arrives, so a stream and a whole file give the same tokens, and memory does not grow.

Letters: B clips, F frames, W frames of a window (2 * window + 1), L layers, D width of a state, T audio tokens a
frame, N samples at 16 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.models.loading import StrictLoading

SAMPLE_RATE = 16000
FRONT_ENDS = ("mel", "wav2vec2", "wavlm")
FIELD = 400  # samples that one state sees: 25 ms, the receptive field of wav2vec 2.0's convolutions and our mel window
SPEECH_STRIDE = 320  # wav2vec 2.0 and WavLM: one state every 20 ms
MEL_STRIDE = 160
MEL_SLICES = 4  # mel spectra a video frame: 10 ms each at 25 fps, where one alone would miss plosives
Waveform = NDArray[np.float32] | Tensor


@lru_cache(maxsize=4)
def mel_filters(bands: int) -> Tensor:
    """Triangular filters (FIELD // 2 + 1, bands), equally wide on the HTK mel scale from 50 Hz to 8 kHz."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (50.0, SAMPLE_RATE / 2))
    edges = 700.0 * (10.0 ** (torch.linspace(low, high, bands + 2, dtype=torch.float64) / 2595.0) - 1.0)
    hertz = torch.linspace(0, SAMPLE_RATE / 2, FIELD // 2 + 1, dtype=torch.float64)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(segment: Tensor, bands: int) -> Tensor:
    """Log-mel spectra (n, bands) of a segment (N,), one every 10 ms; silence is -1.5, loud speech near 1."""
    window = torch.hann_window(FIELD, device=segment.device)
    spectra = torch.stft(segment.float(), FIELD, MEL_STRIDE, window=window, center=False, return_complex=True)
    power = spectra.abs().square().T @ mel_filters(bands).to(segment.device)
    return (power.clamp(min=1e-8).log10() + 2.0) / 4.0


def window_frames(states: Tensor, window: int) -> Tensor:
    """Each frame with its neighbours: (F, ...) to (F, 2 * window + 1, ...); the ends repeat the outermost frame."""
    index = torch.arange(len(states))[:, None] + torch.arange(-window, window + 1)
    return states[index.clamp(0, len(states) - 1).to(states.device)]


class AudioEncoder(StrictLoading, ModelMixin, ConfigMixin):
    """Speech network (frozen) and projection to audio tokens (trained).

    Inference calls `encode` (whole recording) or `stream` (chunks of any size); both give (F, T, audio_dim) tokens.
    Training caches `states` and calls `forward` on windows of them.
    """

    @register_to_config
    def __init__(
        self,
        front_end: str = "mel",  # "mel", "wav2vec2" or "wavlm"
        speech_config: dict[str, Any] | None = None,  # of the speech network; None: transformers' base size
        layers: tuple[int, ...] | None = None,  # transformer layers that are read, from 1; None reads all
        fps: float = 25.0,
        window: int = 2,  # frames on each side; EMO and Hallo: 2
        num_tokens: int = 32,  # T; Hallo: 32
        audio_dim: int = 768,  # width of a token
        hidden_dim: int = 512,  # Hallo: 512
        mel_bands: int = 64,
        normalize: bool = True,  # zero mean, unit variance sound, as the published speech networks were trained
        block_s: float = 8.0,  # ours: what one run of the speech network computes; bounds its memory
        context_s: float = 2.0,  # ours: sound on each side; beyond it wav2vec's states hardly change
    ) -> None:
        super().__init__()
        if front_end not in FRONT_ENDS:
            raise ValueError(f"front_end must be one of {', '.join(FRONT_ENDS)}, got {front_end!r}")
        if front_end == "mel" and speech_config is not None:
            raise ValueError("front_end 'mel' has no speech network; leave speech_config out, or name wav2vec2")
        self.layers: tuple[int, ...] = ()
        if front_end == "mel":
            self.speech = None
            self.num_states, self.state_dim, self.stride, self.slices = MEL_SLICES, mel_bands, MEL_STRIDE, MEL_SLICES
        else:
            self.speech = _speech_network(front_end, speech_config or {}).requires_grad_(False).eval()
            depth = int(self.speech.config.num_hidden_layers)
            self.layers = tuple(range(1, depth + 1)) if layers is None else tuple(layers)
            if not all(0 <= layer <= depth for layer in self.layers):
                raise ValueError(f"layers must be 0 (the input) to {depth}, got {self.layers}")
            self.num_states, self.state_dim = len(self.layers), int(self.speech.config.hidden_size)
            self.stride, self.slices = SPEECH_STRIDE, 1
        self.projection = nn.Sequential(
            nn.Linear((2 * window + 1) * self.num_states * self.state_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, num_tokens * audio_dim),
        )
        self.norm = nn.LayerNorm(audio_dim)

    @classmethod
    def from_speech_model(cls, path: str, **config: Any) -> AudioEncoder:
        """A new encoder around a published speech network: `path` is a folder or hub id of wav2vec 2.0 or WavLM."""
        from transformers import AutoConfig, AutoModel, logging

        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # heads for other tasks are left out without a table of their names
        try:
            front_end = AutoConfig.from_pretrained(path).model_type
            if front_end not in FRONT_ENDS[1:]:
                raise ValueError(f"{path} is a {front_end!r} model; expected wav2vec2 or wavlm")
            speech, found = AutoModel.from_pretrained(path, use_safetensors=True, output_loading_info=True)
        except OSError as error:
            raise ValueError(
                f"no speech network could be read from {path!r}; expected a folder or hub id with safetensors; "
                f"without a network connection pass a folder. ({error})"
            ) from error
        finally:
            logging.set_verbosity(verbosity)
        missing = sorted(name for name in found["missing_keys"] if "masked_spec_embed" not in name)
        if missing:  # the embedding is for pre-training alone, and fine-tuned checkpoints lack it
            raise ValueError(f"the weights in {path!r} lack {', '.join(missing[:4])}; the download is not whole")
        encoder = cls(front_end=front_end, speech_config=speech.config.to_diff_dict(), **config)
        encoder.speech.load_state_dict(speech.state_dict())
        return encoder

    def train(self, mode: bool = True) -> AudioEncoder:
        """Training mode for the projection; the speech network stays without dropout."""
        super().train(mode)
        if self.speech is not None:
            self.speech.eval()
        return self

    def frames(self, samples: int) -> int:
        """Video frames that cover `samples` samples; the last one may be part silence."""
        return math.ceil(samples * self.config.fps / SAMPLE_RATE - 1e-9)

    def forward(
        self,
        windows: Tensor,  # (B, F, W, L, D)
    ) -> Tensor:  # (B, F, T, audio_dim)
        width = 2 * self.config.window + 1
        if windows.shape[2:] != (width, self.num_states, self.state_dim):
            raise ValueError(
                f"windows must be (B, F, {width}, {self.num_states}, {self.state_dim}), got {tuple(windows.shape)}; "
                "make them with window_frames from the states of the same encoder"
            )
        tokens = self.projection(windows.flatten(2)).unflatten(-1, (self.config.num_tokens, self.config.audio_dim))
        return self.norm(tokens)

    @torch.no_grad()
    def encode(self, waveform: Waveform) -> Tensor:
        """Tokens (F, T, audio_dim) of a whole recording (N,)."""
        return torch.cat(list(self.stream([waveform])))

    def stream(self, chunks: Iterable[Waveform]) -> Iterator[Tensor]:
        """Tokens (f, T, audio_dim) of a recording that arrives in chunks (N,), `window` frames behind its states."""
        window = self.config.window
        held: Tensor | None = None  # states still needed; the first `window` of them are only neighbours
        for states in self.stream_states(chunks):
            held = torch.cat([states[:1].expand(window, -1, -1) if held is None else held, states])
            if len(held) > 2 * window:
                yield self._tokens(held)
                held = held[len(held) - 2 * window :]
        if held is not None and window:
            yield self._tokens(torch.cat([held, held[-1:].expand(window, -1, -1)]))

    @apply_forward_hook
    @torch.no_grad()
    def _tokens(self, held: Tensor) -> Tensor:
        """Tokens of the frames that have `window` neighbours on both sides in `held`."""
        window = self.config.window
        windows = held.unfold(0, 2 * window + 1, 1).movedim(-1, 1)  # (f, W, L, D)
        return self.forward(windows[None].to(self.device, self.dtype))[0]

    @torch.no_grad()
    def states(self, waveform: Waveform) -> Tensor:
        """States (F, L, D) of a whole recording (N,): what training caches."""
        return torch.cat(list(self.stream_states([waveform])))

    def stream_states(self, chunks: Iterable[Waveform]) -> Iterator[Tensor]:
        """States (f, L, D) of a recording that arrives in chunks (N,) of any size, a block at a time."""
        block = max(1, round(self.config.block_s * self.config.fps))
        held, held_from, first, ended = torch.zeros(0), 0, 0, False
        waiting = iter(chunks)
        while True:
            start, stop = self._span(first, block)
            while held_from + len(held) < stop and not ended:
                chunk = next(waiting, None)
                ended = chunk is None
                if chunk is not None:
                    held = torch.cat([held, _checked(chunk)])
            if held_from + len(held) == 0:
                raise ValueError("the recording has no samples; pass at least one video frame of 16 kHz sound")
            frames = min(block, self.frames(held_from + len(held)) - first)
            if frames <= 0:
                return
            yield self._block_states(held[start - held_from : stop - held_from], start, first, frames)
            first += block
            held, held_from = held[self._span(first, block)[0] - held_from :], self._span(first, block)[0]

    def _span(self, first: int, frames: int) -> tuple[int, int]:
        """Samples of these frames and their context, from a multiple of the stride so that states share one grid."""
        rate = SAMPLE_RATE / self.config.fps
        context = self.config.context_s * SAMPLE_RATE
        start = max(0, math.floor((first * rate - context) / self.stride)) * self.stride
        return start, math.ceil((first + frames) * rate + context)

    @apply_forward_hook
    @torch.no_grad()
    def _block_states(self, segment: Tensor, start: int, first: int, frames: int) -> Tensor:
        """States (frames, L, D) of the frames from `first`, out of the sound (N,) that begins at sample `start`."""
        sound = F.pad(segment, (0, max(0, FIELD - len(segment)))).to(self.device)
        if self.speech is None:
            sequence = log_mel(sound, self.config.mel_bands)[:, None]
        else:
            if self.config.normalize:
                sound = (sound - sound.mean()) / (sound.var(correction=0) + 1e-7).sqrt()
            output = self.speech(sound[None].to(self.dtype), output_hidden_states=True)
            sequence = torch.stack([output.hidden_states[layer][0] for layer in self.layers], dim=1).float()
        middle = (first + (np.arange(frames * self.slices) + 0.5) / self.slices) / self.config.fps * SAMPLE_RATE
        position = torch.as_tensor((middle - start - FIELD / 2) / self.stride, dtype=torch.float32)
        position = position.clamp(0, len(sequence) - 1).to(self.device)
        below = position.floor().long()
        above = (below + 1).clamp(max=len(sequence) - 1)
        states = torch.lerp(sequence[below], sequence[above], (position - below)[:, None, None])
        return states.reshape(frames, self.num_states, self.state_dim)


def _speech_network(front_end: str, config: dict[str, Any]) -> Any:
    """The transformers model of a front end, with random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

    if front_end == "wav2vec2":
        return Wav2Vec2Model(Wav2Vec2Config.from_dict(config))
    return WavLMModel(WavLMConfig.from_dict(config))


def _checked(chunk: Waveform) -> Tensor:
    """A chunk of sound as a float tensor on the CPU; refuses other shapes and broken samples."""
    sound = torch.as_tensor(chunk, dtype=torch.float32, device="cpu")
    if sound.ndim != 1:
        raise ValueError(f"sound must be mono (N,) at {SAMPLE_RATE} Hz, got shape {tuple(sound.shape)}; mix it down")
    if not sound.isfinite().all():
        raise ValueError("the sound holds NaN or infinite samples; export the recording again")
    return sound
