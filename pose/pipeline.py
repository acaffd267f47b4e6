"""The gesture stage as a diffusers pipeline: speech in, `Motion` out, window by window.

    SpeechFeatures ─► windows of F frames ─► condition ─► denoise ─► (codec) ─► stitch ─► smooth ─► Motion
                                 seed: the last S frames ◄───────────────────────┘

Any of the four systems, any diffusers scheduler. A window overlaps the one before by the model's S seed frames. Memory
does not grow with length; the first frames come when F - S frames of speech are there, and later ones at most that
late plus the S frames of the overlap.
Letters: B variants, F frames of a window, S seed frames, n frames of a piece, P width of a pose vector, K styles and
speakers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from torch import Tensor

from pose.feature_sets import SpeechWindow, feature_width, speech_windows
from pose.models.denoiser import FIDELITIES, GestureDenoiser
from pose.models.motion_codec import MotionCodec
from pose.motion import Motion
from pose.representations.vectors import MotionVectors
from pose.sampling import Held, Stabilizer, denoise, draw, guided
from pose.speech import SpeechFeatures
from pose.stitching import Smoother, Stitcher, crossfade_weights

Choice = str | int | Mapping[str, float] | None  # a name, or weights of several: {"happy": 1.5}, {"2": 0.5, "4": 0.5}
STITCHINGS = ("crossfade", "outpaint")


@dataclass
class GestureOutput(BaseOutput):
    motions: list[Motion]  # one for each seed


@dataclass(frozen=True)
class Keyframes:
    """Poses to pass through: frame k of `motion` stands at frame `frames[k]` of the result."""

    motion: Motion
    frames: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.motion) or any(frame < 0 for frame in self.frames):
            raise ValueError(
                f"key frames need a frame number from 0 for each of {len(self.motion)} poses, got {list(self.frames)}"
            )


@dataclass(frozen=True)
class Settings:
    """The choices of one run; see `GesturePipeline.stream`. `style` and `against` are vectors (K,)."""

    style: Tensor
    against: Tensor | None
    guidance: float
    steps: int | None
    eta: float
    stabilizer: Stabilizer | None
    outpaint: bool
    keyframes: tuple[Tensor, Tensor] | None  # values (n, P) and their frames (n,)


class GesturePipeline(DiffusionPipeline):
    model_cpu_offload_seq = "model->codec"
    _optional_components = ["codec"]

    def __init__(
        self,
        model: GestureDenoiser,
        scheduler: SchedulerMixin,  # see pose.sampling.scheduler_for
        representation: MotionVectors,
        codec: MotionCodec | None = None,  # for models of latents
        feature_set: str | None = "acoustic",  # None for models that hear the waveform
        styles: list[str] | None = None,  # names of the first numbers of the style vector
        speakers: list[str] | None = None,  # names of the rest
        steps: int | None = 8,  # what `stream` takes when it is not told; None: all of the training's
        guidance: float = 1.0,  # γ; published for DiffGesture: 1.15
        clip: float | None = None,  # hold clean samples within ± so many deviations
        smooth: int = 0,  # frames of the smoothing that `stream` does when it is not told; 0 for none
        fidelity: str = "paper",  # "released": the cross-fade of one frame
        default_style: str | None = None,  # what `stream` takes when it is not told; {} says nothing all the same
        own_eyes: bool = True,  # False: who shows the face takes eyes and brows elsewhere (pose/eye_contact.py)
    ) -> None:
        super().__init__()
        inner = representation.dim if codec is None else codec.config.latent_dim
        if model.pose_dim != inner or (codec is not None and codec.config.pose_dim != representation.dim):
            raise ValueError(
                f"the parts do not fit: the representation has {representation.dim} numbers a frame"
                + ("" if codec is None else f", the codec takes {codec.config.pose_dim} and gives {inner}")
                + f", the model takes {model.pose_dim}"
            )
        if (feature_set is None) != (model.speech_input == "waveform"):
            raise ValueError(f"this model hears {model.speech_input}, got feature_set={feature_set!r}")
        if feature_set is not None and feature_width(feature_set) != model.config.speech_dim:
            raise ValueError(
                f"the model hears {model.config.speech_dim} numbers a frame, the feature set {feature_set!r} has "
                f"{feature_width(feature_set)}"
            )
        styles, speakers = [str(name) for name in styles or ()], [str(name) for name in speakers or ()]
        if len(styles) + len(speakers) != model.config.style_dim:
            raise ValueError(
                f"the model knows {model.config.style_dim} styles and speakers, "
                f"got names of {len(styles)} and {len(speakers)}"
            )
        if default_style is not None and default_style not in styles:
            raise ValueError(f"default_style must be one of {', '.join(styles) or 'no styles'}, got {default_style!r}")
        if fidelity not in FIDELITIES:
            raise ValueError(f"fidelity must be one of {', '.join(FIDELITIES)}, got {fidelity!r}")
        self.register_modules(model=model, scheduler=scheduler, representation=representation, codec=codec)
        self.register_to_config(
            feature_set=feature_set,
            styles=styles,
            speakers=speakers,
            steps=steps,
            guidance=guidance,
            clip=clip,
            smooth=smooth,
            fidelity=fidelity,
            default_style=default_style,
            own_eyes=own_eyes,
        )

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> GesturePipeline:
        """A pipeline saved by `save_pretrained`: a folder or hub id, safetensors only."""
        try:
            kind = cls.load_config(path).get("_class_name")
            if kind != cls.__name__:
                raise ValueError(f"{str(path)!r} is not a gesture model but {kind}; train one with train/gesture.py")
            return super().from_pretrained(path, **{**kwargs, "use_safetensors": True})
        except OSError as error:
            raise ValueError(
                f"no gesture pipeline could be read from {str(path)!r}; expected model_index.json and a folder for "
                f"each part ({error})"
            ) from error

    @property
    def fps(self) -> float:
        """Frames a second of speech features in and motion out."""
        return float(self.representation.config.fps)

    @property
    def latency_s(self) -> float:
        """How much speech must be there before the first motion comes; later motion may be S frames later."""
        config = self.model.config
        return (config.frames - config.seed_frames) / self.fps

    @property
    def mean_pose(self) -> Motion:
        """One frame: the mean of what the model was trained on."""
        return self.representation.decode(torch.zeros(1, self.representation.dim, device=self.model.device))

    def style_vector(self, style: Choice = None, speaker: Choice = None) -> Tensor:
        """(K,) of names and weights; what is not named is 0, which training knows as "not said"."""
        parts = []
        for kind, names, choice in (("style", self.config.styles, style), ("speaker", self.config.speakers, speaker)):
            weights = {} if choice is None else choice if isinstance(choice, Mapping) else {str(choice): 1.0}
            unknown = [str(name) for name in weights if str(name) not in names]
            if unknown:
                raise ValueError(
                    f"unknown {kind} {', '.join(map(repr, unknown))}; this model knows {', '.join(names) or 'none'}"
                )
            parts += [float(weights.get(name, 0.0)) for name in names]
        return torch.tensor(parts, dtype=torch.float32)

    def __call__(
        self, speech: SpeechFeatures | Iterable[SpeechFeatures], *, seeds: Sequence[int] = (0,), **choices: Any
    ) -> GestureOutput:
        """The whole of a recording, once for each seed in one batch. `choices`: see `stream`."""
        pieces: list[list[Motion]] = [[] for _ in seeds]
        for vectors in self._run([speech] if isinstance(speech, SpeechFeatures) else speech, seeds, **choices):
            for motions, variant in zip(pieces, vectors, strict=True):
                motions.append(self.representation.decode(variant))
        return GestureOutput(motions=[Motion.concatenated(motions) for motions in pieces])

    def stream(
        self, speech: SpeechFeatures | Iterable[SpeechFeatures], *, seed: int = 0, **choices: Any
    ) -> Iterator[Motion]:
        """Motion of the same number of frames as the speech, piece by piece as windows finish.

        Choices, all by name: `style`, `speaker` (a name, or weights of several names, also beyond 1), `guidance` γ
        (1 plain, above 1 exaggerated) away from no style, or from `against`, another style: then γ between 0 and 1
        lies between the two; `steps` and `eta` of the scheduler; `seed_motion` that goes before the first frame, such
        as the photo's pose; `stitching` "crossfade" or "outpaint" (windows also grow out of the one before while
        they are denoised); `keyframes` to pass through; a `stabilizer`; `smooth` the body (Savitzky-Golay over so
        many frames, which passes near key frames only; True: 15 as in released code, False: not at all). The same
        speech, seed and choices give the same motion however speech comes cut.
        """
        for vectors in self._run([speech] if isinstance(speech, SpeechFeatures) else speech, [seed], **choices):
            yield self.representation.decode(vectors[0])

    def _run(
        self,
        speech: Iterable[SpeechFeatures],
        seeds: Sequence[int],
        *,
        style: Choice = None,
        speaker: Choice = None,
        against: Choice = None,
        guidance: float | None = None,
        steps: int | None = None,
        eta: float = 0.0,
        seed_motion: Motion | None = None,
        keyframes: Keyframes | None = None,
        stitching: str = "crossfade",
        stabilizer: Stabilizer | None = None,
        smooth: bool | int | None = None,
    ) -> Iterator[Tensor]:
        """Normalised vectors (B, n, P) as they are finished."""
        # 1. Check and prepare
        if not seeds:
            raise ValueError("no seeds: pass at least one, such as seeds=(0,)")
        if stitching not in STITCHINGS:
            raise ValueError(f"stitching must be one of {', '.join(STITCHINGS)}, got {stitching!r}")
        settings = Settings(
            self.style_vector(self.config.default_style if style is None else style, speaker),
            None if against is None else self.style_vector(against, speaker),
            self.config.guidance if guidance is None else guidance,
            self.config.steps if steps is None else steps,
            eta,
            stabilizer,
            stitching == "outpaint",
            self._key_values(keyframes),
        )
        config = self.model.config
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # Out-painting has the cross-fade in the window already.
        new_share = crossfade_weights(config.seed_frames, self.config.fidelity)
        new_share = torch.ones_like(new_share) if settings.outpaint else new_share
        stitcher = Stitcher(self._first_tail(seed_motion, len(seeds)), new_share)
        window = self.config.smooth if smooth is None else smooth
        width = self.representation.parts[0]  # not the face
        smoother = None if not window else Smoother(15 if window is True else window, width=width)
        # 2. Windows
        windows = speech_windows(speech, self.config.feature_set, self.fps, config.frames, config.seed_frames)
        made, total = 0, None
        for window in windows:
            total = window.total
            piece = stitcher.push(self._window(window, stitcher, settings, generators, seed_motion is not None))
            piece = piece[:, : None if total is None else max(total - made, 0)]
            made += piece.shape[1]
            piece = piece if smoother is None else smoother.push(piece)
            if piece.shape[1]:
                yield piece
        # 3. The end, which no further window overlaps
        rest = stitcher.tail[:, : None if total is None else max(total - made, 0)]
        if smoother is not None:
            parts = [smoother.push(rest), smoother.finish()]
            rest = torch.cat([part for part in parts if part is not None], 1)
        if rest.shape[1]:
            yield rest

    @torch.no_grad()
    def _window(
        self,
        window: SpeechWindow,
        stitcher: Stitcher,
        settings: Settings,
        generators: list[torch.Generator],
        has_seed: bool,
    ) -> Tensor:
        """One window (B, F, P) of normalised vectors."""
        was_training = self.model.training
        self.model.eval()
        variants, device = len(generators), self.model.device
        # 1. Condition
        tail = stitcher.tail if self.codec is None else self.codec.encode(stitcher.tail)
        seed = tail if stitcher.begun or has_seed else None
        speech = torch.as_tensor(window.speech, device=device)[None].expand(variants, *window.speech.shape)

        def style(vector: Tensor) -> Tensor | None:
            return vector.to(device)[None].expand(variants, -1) if len(vector) else None

        condition = self.model.condition(speech=speech, seed=seed, style=style(settings.style))
        other = None
        if settings.guidance != 1.0 and settings.against is not None:
            other = self.model.condition(speech=speech, seed=seed, style=style(settings.against))
        elif settings.guidance != 1.0:
            other = self.model.null_condition(speech=speech, seed=seed)
        # 2. What is held
        held = self._held(window.first, stitcher, settings, has_seed)
        inner_held = held
        if held is not None and self.codec is not None:
            weight = held.weight.amax(-1, keepdim=True)
            inner_held = Held(self.codec.encode(_filled(held.values, weight)), weight)
        # 3. Denoise
        noise = draw(
            (variants, self.model.config.frames, self.model.pose_dim), generators, torch.empty(0, device=device)
        )
        predict = guided(self.model, condition, other, settings.guidance, self.scheduler, self.config.clip)
        vectors = denoise(
            predict, noise, self.scheduler, generators, settings.steps, settings.eta, settings.stabilizer, inner_held
        )
        # 4. Decode
        if self.codec is not None:
            vectors = self.codec.decode(vectors)
            vectors = vectors if held is None else held.put(vectors)
        self.model.train(was_training)
        return vectors

    def _held(self, first: int, stitcher: Stitcher, settings: Settings, has_seed: bool) -> Held | None:
        """The overlap with the window before, when it is painted out of, and the key poses, in a window's frames."""
        variants, overlap, width = stitcher.tail.shape
        values = stitcher.tail.new_zeros(variants, self.model.config.frames, width)
        weight = values.new_zeros(1, *values.shape[1:])
        if settings.outpaint and (stitcher.begun or has_seed):
            values[:, :overlap] = stitcher.tail
            weight[:, :overlap] = 1 - crossfade_weights(overlap).to(weight)[:, None]
        if settings.keyframes is not None:
            poses, frames = settings.keyframes
            inside = (frames >= first) & (frames < first + values.shape[1])
            channels = self.representation.pose_channels
            places = frames[inside] - first
            values[:, places] = torch.where(channels, poses[inside], values[:, places])
            weight[:, places] = torch.where(channels, 1.0, weight[:, places])
        return Held(values, weight) if bool(weight.any()) else None

    def _first_tail(self, motion: Motion | None, variants: int) -> Tensor:
        """(B, S, P): the end of what comes before the first frame; the mean pose without any."""
        frames, device = self.model.config.seed_frames, self.model.device
        if motion is None:
            return torch.zeros(variants, frames, self.representation.dim, device=device)
        motion = motion.resampled(self.fps)[-frames:]
        if len(motion) < frames:  # hold the first pose as long as it takes
            motion = Motion.concatenated([motion[:1]] * (frames - len(motion)) + [motion])
        return self.representation.encode(motion)[None].repeat(variants, 1, 1).to(device)

    def _key_values(self, keyframes: Keyframes | None) -> tuple[Tensor, Tensor] | None:
        if keyframes is None:
            return None
        frames = torch.as_tensor(np.asarray(keyframes.frames), device=self.model.device)
        motion = keyframes.motion
        motion = Motion(self.fps, motion.skeleton, motion.rotations, motion.root_position, motion.expression)
        poses = [self.representation.encode(motion[k : k + 1]) for k in range(len(motion))]  # they are no sequence
        return torch.cat(poses).to(self.model.device), frames


def _filled(values: Tensor, weight: Tensor) -> Tensor:
    """Values (B, F, P) with the frames of weight 0 (1, F, 1) interpolated between those that are held: a codec looks
    at neighbours."""
    frames = torch.arange(values.shape[1], device=values.device)
    known = frames[weight[0, :, 0] > 0]
    after = torch.searchsorted(known, frames).clamp(max=len(known) - 1)
    before = (torch.searchsorted(known, frames, right=True) - 1).clamp(min=0)
    span = (known[after] - known[before]).clamp(min=1)
    part = ((frames - known[before]) / span).clamp(0, 1)[None, :, None].to(values.dtype)
    return values[:, known[before]] * (1 - part) + values[:, known[after]] * part
