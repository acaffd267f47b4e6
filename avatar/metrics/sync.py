"""Lip-sync confidence and distance by SyncNet, with weights brought by the user.

Chung and Zisserman 2016, "Out of time: automated lip sync in the wild"; layers and names as in the authors' release,
so that its weights load once they are converted to safetensors. LSE-C and LSE-D, Sync-C and Sync-D are these numbers.

Letters: F frames at 25 a second, W windows of 5 frames, D = 1024 features, L lags, N samples at 16 kHz, T audio
frames at 100 a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.metrics.networks import check_weights, load_tensors, weights_name

Array = NDArray[np.float32]

FPS, SAMPLE_RATE = 25.0, 16000
SIDE, FRAMES = 224, 5
CEPSTRA, AUDIO_FRAMES = 13, 20  # the 20 audio frames that lie under 5 video frames
REACH = 15  # lags in video frames, as in the release
BATCH = 16
# Of the box of a face: half its longer side is `bs`, and the crop reaches 1.4 bs to the left, right and 0.4 up to
# 1.8 bs down of the middle, as in the release's run_pipeline.py with its crop scale of 0.4.
CROP_SCALE = 0.4


class SyncNet(nn.Module):
    """Two towers to one space of 1024 features: 5 frames of a face crop, and 0.2 s of MFCC."""

    def __init__(self) -> None:
        super().__init__()

        def audio(inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), padding: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU()]

        def lips(
            inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 1
        ) -> list[nn.Module]:
            convolution = nn.Conv3d(inputs, outputs, kernel, stride=(1, stride, stride), padding=(0, padding, padding))
            return [convolution, nn.BatchNorm3d(outputs), nn.ReLU()]

        def head() -> nn.Sequential:
            return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))

        self.netcnnaud = nn.Sequential(
            *audio(1, 64), nn.MaxPool2d(1),
            *audio(64, 192), nn.MaxPool2d(3, stride=(1, 2)),
            *audio(192, 384), *audio(384, 256), *audio(256, 256), nn.MaxPool2d(3, stride=2),
            *audio(256, 512, (5, 4), padding=0),
        )  # fmt: skip
        self.netfcaud = head()
        self.netfclip = head()

        def shrink(padding: int = 0) -> nn.Module:
            return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, padding, padding))

        self.netcnnlip = nn.Sequential(
            *lips(3, 96, (5, 7, 7), stride=2, padding=0), shrink(),
            *lips(96, 256, (1, 5, 5), stride=2), shrink(padding=1),
            *lips(256, 256, (1, 3, 3)), *lips(256, 256, (1, 3, 3)), *lips(256, 256, (1, 3, 3)),
            shrink(),
            *lips(256, 512, (1, 6, 6), padding=0),
        )  # fmt: skip

    def audio(self, cepstra: Tensor) -> Tensor:  # (B, 1, 13, 20) -> (B, 1024)
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    def lips(self, clips: Tensor) -> Tensor:  # (B, 3, 5, 224, 224) BGR in [0, 255] -> (B, 1024)
        return self.netfclip(self.netcnnlip(clips).flatten(1))


@dataclass(frozen=True)
class SyncScore:
    """`confidence` (Sync-C, higher is better): median less least distance over the lags; `distance` (Sync-D, lower):
    the least; `lag` in video frames, positive where the mouth is late; `distances` (L,)."""

    confidence: float
    distance: float
    lag: int
    distances: NDArray[np.float64]


class SyncScorer:
    """Embeds mouths and sound with the weights of `path`, a .safetensors with the release's names."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        path = check_weights(path, "SyncNet", (".safetensors",))
        self.name, self.device = weights_name(path), device
        model = SyncNet()
        shapes = {n: v.shape for n, v in model.state_dict().items()}
        model.load_state_dict(load_tensors(path, "SyncNet", shapes), strict=False)
        self._model = model.eval().to(device)

    def mouths(self, crops: NDArray[np.uint8]) -> Array:
        """Embeddings (W, 1024) of the windows of 5 in face crops (F, 224, 224, 3) RGB at 25 a second; W = F - 4."""
        if crops.shape[1:] != (SIDE, SIDE, 3) or len(crops) < FRAMES:
            raise ValueError(f"SyncNet needs at least {FRAMES} crops of ({SIDE}, {SIDE}, 3), got {crops.shape}")
        planes = torch.from_numpy(np.ascontiguousarray(crops[..., ::-1].transpose(3, 0, 1, 2)))  # (3, F, ...), BGR
        clips = planes.unfold(1, FRAMES, 1).permute(1, 0, 4, 2, 3)  # (W, 3, 5, 224, 224), a view
        return self._run(self._model.lips, clips)

    def sound(self, waveform: Array) -> Array:
        """Embeddings (W, 1024) of 16 kHz mono sound (N,) in [-1, 1], one for each video frame that 0.2 s follow."""
        cepstra = torch.from_numpy(mfcc(waveform).T.astype(np.float32))  # (13, T)
        if cepstra.shape[1] < AUDIO_FRAMES:
            raise ValueError(f"SyncNet needs 0.215 s of sound, got {len(waveform) / SAMPLE_RATE:.3f} s")
        clips = cepstra.unfold(1, AUDIO_FRAMES, 4).permute(1, 0, 2)[:, None]  # (W, 1, 13, 20): 4 audio frames a frame
        return self._run(self._model.audio, clips)

    def _run(self, tower: nn.Module | object, clips: Tensor) -> Array:
        with torch.inference_mode():
            parts = [
                tower(clips[k : k + BATCH].to(self.device, torch.float32)).cpu()  # type: ignore[operator]
                for k in range(0, len(clips), BATCH)
            ]
        return torch.cat(parts).numpy()


def sync_score(mouths: Array, sound: Array, reach: int = REACH) -> SyncScore:
    """Distances of mouths (W, D) to sounds (W', D) at each lag, mean over the windows, as the release has it.

    Where a lag leads out of the sound the release compares with zeros, and so do we: its numbers on clips of a few
    seconds are lowered by that in the same way.
    """
    frames = min(len(mouths), len(sound))
    if frames < 2 * reach + 1:
        raise ValueError(f"SyncNet's {2 * reach + 1} lags need as many windows, got {frames}; pass a longer clip")
    mouths, sound = mouths[:frames].astype(np.float64), sound[:frames].astype(np.float64)
    padded = np.pad(sound, ((reach, reach), (0, 0)))
    rows = [
        np.linalg.norm(mouths - padded[k : k + frames] + 1e-6, axis=1).mean()  # torch's pairwise_distance adds 1e-6
        for k in range(2 * reach + 1)
    ]
    distances = np.array(rows)
    least = int(distances.argmin())
    # Row k compares a mouth with the sound k - reach frames later, so a late mouth has its least below the middle.
    return SyncScore(float(np.median(distances) - distances[least]), float(distances[least]), reach - least, distances)


def mouth_crop(image: NDArray[np.uint8], face: Array) -> NDArray[np.uint8]:
    """The crop SyncNet wants, (224, 224, 3), around a face (478, 2) in an image (H, W, 3); grey beyond the border."""
    low, high = face.min(axis=0), face.max(axis=0)
    half = float((high - low).max()) / 2
    x, y = (low + high) / 2
    corner = np.array([x - half * (1 + CROP_SCALE), y - half])
    scale = SIDE / (2 * half * (1 + CROP_SCALE))
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    if scale < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 / scale).astype(np.uint8)
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), borderValue=(110, 110, 110)).astype(np.uint8)


def mfcc(waveform: Array) -> NDArray[np.float64]:
    """13 cepstra of 25 ms every 10 ms, (T, 13), of 16 kHz sound in [-1, 1], as python_speech_features computes them.

    Its defaults: samples as 16-bit integers, pre-emphasis 0.97, rectangular windows, 512-point power spectrum, 26 mel
    triangles, ln, orthonormal DCT-II, lifter 22, and the log energy in place of the first.
    """
    window, hop, size, bands, lifter = 400, 160, 512, 26, 22
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"waveform must be (N,) with N > 0, got {waveform.shape}")
    samples = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.float64)
    samples = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    count = 1 + max(0, int(np.ceil((len(samples) - window) / hop)))
    samples = np.pad(samples, (0, (count - 1) * hop + window - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    power = np.abs(np.fft.rfft(frames, size)) ** 2 / size
    tiny = np.finfo(np.float64).eps
    energy = np.where(power.sum(axis=1) == 0, tiny, power.sum(axis=1))
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), bands + 2)
    edges = np.floor((size + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(size // 2 + 1)[None]
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.where(bins < edges[1:-1, None], rise, fall)
    inside = (bins >= edges[:-2, None]) & (bins < edges[2:, None])
    bank = power @ np.where(inside, triangles, 0.0).T
    cepstra = scipy.fft.dct(np.log(np.where(bank == 0, tiny, bank)), type=2, axis=1, norm="ortho")[:, :CEPSTRA]
    cepstra *= 1 + lifter / 2 * np.sin(np.pi * np.arange(CEPSTRA) / lifter)
    cepstra[:, 0] = np.log(energy)
    return cepstra
