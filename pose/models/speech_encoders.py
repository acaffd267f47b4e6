"""Convolutions over the raw waveform that end on the motion clock, trained with the gesture network; and its spectrum.

Letters: B clips, N samples at 16 kHz, F frames, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDS = 20  # of `band_levels`
_HOP, _WINDOW, _QUIET = 160, 512, 1e-5  # 10 ms, 32 ms; power of silence, far below speech


def at_frames(features: Tensor, frames: int) -> Tensor:
    """(B, C, n) to (B, F, C): as it is where the strides give F, else interpolated (other windows than 34)."""
    if features.shape[-1] != frames:
        features = F.interpolate(features, size=frames, mode="linear", align_corners=False)
    return features.transpose(1, 2)


def band_levels(waveform: Tensor, frames: int) -> Tensor:
    """(B, N) to (B, F, 20): logarithms of power in bands as wide as equal steps of mel, means of each frame."""
    spectrum = torch.stft(
        waveform.float(), _WINDOW, _HOP, window=torch.hann_window(_WINDOW, device=waveform.device), return_complex=True
    )
    power = spectrum.abs().square().transpose(1, 2)
    frequency = torch.linspace(0, 8000, power.shape[-1], device=waveform.device)
    mel = torch.log1p(frequency / 700)  # O'Shaughnessy 1987, but for a factor
    band = (mel / mel[-1] * BANDS).long().clamp(max=BANDS - 1)
    sums = power @ F.one_hot(band, BANDS).to(power)
    return F.adaptive_avg_pool1d((sums + _QUIET).log().transpose(1, 2), frames).transpose(1, 2)


class WaveformEncoder(nn.Module):
    """Four strided convolutions: 36,266 or 36,267 samples to 34 frames at 15 fps (Yoon et al. 2020; DiffGesture)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = ((1, 16, 5, 1600), (16, 32, 6, 0), (32, 64, 6, 0))  # in, out, stride, padding
        for channels, out, stride, padding in sizes:
            layers += [nn.Conv1d(channels, out, 15, stride, padding), nn.BatchNorm1d(out), nn.LeakyReLU(0.3)]
        self.layers = nn.Sequential(*layers, nn.Conv1d(64, width, 15, 6))

    def forward(self, waveform: Tensor, frames: int) -> Tensor:
        """(B, N) to (B, F, width)."""
        return at_frames(self.layers(waveform[:, None]), frames)


class ResidualWaveformEncoder(nn.Module):
    """Six residual blocks of two convolutions, then two layers: the shape of CaMN's encoder (Liu et al. 2022).

    Its total stride of 1080 is near the 1067 samples of a frame at 15 fps. Kernels and widths are CaMN's; the
    order of normalisation is ours.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        low, middle = width // 4, width // 2  # 32 and 64 in CaMN
        sizes = ((1, low, 5), (low, low, 6), (low, low, 1), (low, middle, 6), (middle, middle, 1), (middle, width, 6))
        self.blocks = nn.ModuleList(_Block(*size) for size in sizes)  # in, out, stride
        self.out = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.1), nn.Linear(width, width))

    def forward(self, waveform: Tensor, frames: int) -> Tensor:
        """(B, N) to (B, F, width)."""
        features = waveform[:, None]
        for block in self.blocks:
            features = block(features)
        return self.out(at_frames(features, frames))


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, out, 15, stride, 7), nn.GroupNorm(1, out), nn.LeakyReLU(0.2),
            nn.Conv1d(out, out, 15, 1, 7), nn.GroupNorm(1, out),
        )  # fmt: skip
        same = stride == 1 and channels == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv1d(channels, out, 15, stride, 7), nn.GroupNorm(1, out))
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(self.body(features) + self.shortcut(features), 0.2)
