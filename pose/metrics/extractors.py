"""Feature extractors of the authors, as networks for weights that the user brings.

    encoder = WindowEncoder.beat();  encoder.load("ae_300.bin");  features = encoder.features(windows)

Letters: W windows, F frames of a window, D numbers a frame, L width of the feature, T steps.

`LeakyReLU(True)` in the Trimodal family sets the *slope* to 1: the activation does nothing, and the layers around it
are linear. Weights trained so need it so (`slope=1`). Parameters have the names of the released code. Input is what
the authors give their network, see each constructor; numbers of different extractors cannot be compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pose.metrics.arrays import finite
from pose.metrics.weights import load_encoder

Double = NDArray[np.float64]
_BATCH = 256


class Extractor(nn.Module):
    """What all extractors share: the name of the loaded weights, and features of arrays."""

    prefixes: tuple[str, ...] = ("encoder.",)
    frames: int  # of a window; 0: any multiple of `multiple`
    width: int  # D
    name: str = ""  # of the weights; empty until they are loaded

    def load(self, path: str | Path) -> None:
        """Read the authors' weights; sets `name`, which is printed with every number."""
        self.name = load_encoder(self, path, self.prefixes)

    @torch.no_grad()
    def features(self, windows: ArrayLike) -> Double:
        """(W, F, D) to (W, L); ValueError without weights."""
        return self._run(self._checked(windows)).double().numpy()

    def _checked(self, windows: ArrayLike) -> Tensor:
        if not self.name:
            raise ValueError(f"{type(self).__name__} has no weights: load() them first")
        values = finite(windows, "windows", dimensions=3)
        if values.shape[2] != self.width or (self.frames and values.shape[1] != self.frames):
            raise ValueError(f"windows must be (W, {self.frames or 'F'}, {self.width}), got {values.shape}")
        return torch.from_numpy(values).float()

    def _run(self, windows: Tensor) -> Tensor:
        self.eval()
        return torch.cat([self(part) for part in windows.split(_BATCH)])


class WindowEncoder(Extractor):
    """Four convolutions and an MLP over a whole window: the encoder that began with Trimodal (Yoon et al. 2020)."""

    prefixes = ("pose_encoder.", "encoder.")

    def __init__(
        self,
        width: int,
        frames: int,
        channels: int,  # of the first and last convolution; twice that between
        head: tuple[int, ...],  # widths of the MLP, the last is L
        mean: bool = True,  # a variational encoder, whose mean is the feature
        slope: float = 1.0,
        wide_first: bool = False,  # the first layer of the MLP has no activation (DiffSHEG's 64 and 88 frames)
        batch_statistics: bool = False,  # normalise by the batch: BEAT's test never calls eval()
    ) -> None:
        super().__init__()
        self.frames, self.width, self.batch_statistics = frames, width, batch_statistics
        double = 2 * channels

        def block(inner: int, outer: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv1d(inner, outer, kernel, stride), nn.BatchNorm1d(outer), nn.LeakyReLU(0.2))

        self.net = nn.Sequential(
            block(width, channels, 3, 1),
            block(channels, double, 3, 1),
            block(double, double, 4, 2),
            nn.Conv1d(double, channels, 3),
        )
        steps = (frames - 8) // 2 - 1  # left after the convolutions
        layers: list[nn.Module] = []
        inner = steps * channels
        for place, outer in enumerate(head[:-1]):
            layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer)]
            if not (wide_first and place == 0):
                layers.append(nn.LeakyReLU(slope))
            inner = outer
        self.out_net = nn.Sequential(*layers, nn.Linear(inner, head[-1]))
        self.mean = mean
        if mean:
            self.fc_mu = nn.Linear(head[-1], head[-1])
            self.fc_logvar = nn.Linear(head[-1], head[-1])

    @classmethod
    def ted(cls) -> WindowEncoder:
        """TED Gesture: 34 frames at 15 fps of 27 direction numbers less their mean; 32 features."""
        return cls(27, 34, 32, (256, 128, 32))

    @classmethod
    def ted_expressive(cls) -> WindowEncoder:
        """TED Expressive's MotionAE: 34 frames at 15 fps of 126 numbers less their mean; 128 features."""
        return cls(126, 34, 32, (256, 128, 128), mean=False)

    @classmethod
    def beat(cls, batch_statistics: bool = True) -> WindowEncoder:
        """BEAT v1: 34 frames at 15 fps, stride 10, of 141 Euler angles in degrees, z-normalised; 300 features.

        As released (`batch_statistics`) the windows of one file are normalised by their own statistics.
        """
        return cls(141, 34, 300, (1200, 600, 300), batch_statistics=batch_statistics)

    @classmethod
    def diffsheg(cls, width: int = 141, frames: int = 34) -> WindowEncoder:
        """DiffSHEG on BEAT: 141 (gesture, axis-angle), 51 (expression) or 192 (both); SHOW has 88 frames."""
        if frames == 34:
            return cls(width, 34, 300, (1200, 600, 300))
        return cls(width, frames, 300, (3600, 1200, 600, 300), wide_first=True)

    @classmethod
    def adaptive(cls) -> WindowEncoder:
        """AdaptiveDiffuseMotion's: 150 frames of 141, slope 0.01. Its weights and exact layers are not released."""
        return cls(141, 150, 300, (3600, 1200, 600, 300), slope=0.01, wide_first=True)

    def forward(self, windows: Tensor) -> Tensor:
        """(W, F, D) to (W, L)."""
        feature: Tensor = self.out_net(self.net(windows.transpose(1, 2)).flatten(1))
        return self.fc_mu(feature) if self.mean else feature

    def _run(self, windows: Tensor) -> Tensor:
        if not self.batch_statistics:
            return super()._run(windows)
        if len(windows) < 2:
            raise ValueError("normalisation by the batch needs at least 2 windows of a file")
        # With momentum 0 the running statistics are not moved by being looked past.
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = 0.0
        self.train()
        try:
            return self(windows)
        finally:
            self.eval()


class BlendshapeEncoder(Extractor):
    """SAiD's BCVAE (vae.pth): 120 frames at 60 fps of 32 ARKit coefficients; 64 features, the latent mean."""

    frames, width = 120, 32

    def __init__(self) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(
            nn.Conv1d(32, 32, 3), nn.BatchNorm1d(32), nn.LeakyReLU(0.2),
            nn.Conv1d(32, 64, 3), nn.BatchNorm1d(64), nn.LeakyReLU(0.2),
            nn.Conv1d(64, 64, 4, 2), nn.BatchNorm1d(64), nn.LeakyReLU(0.2),
            nn.Conv1d(64, 32, 3), nn.Flatten(),
        )  # fmt: skip
        self.fc_layers = nn.Sequential(
            nn.Linear(1760, 256), nn.BatchNorm1d(256), nn.LeakyReLU(),
            nn.Linear(256, 128), nn.BatchNorm1d(128), nn.LeakyReLU(),
            nn.Linear(128, 64),
        )  # fmt: skip
        self.fc_mu = nn.Linear(64, 64)
        self.fc_logvar = nn.Linear(64, 64)

    def forward(self, coefficients: Tensor) -> Tensor:
        """(W, 120, 32) to (W, 64)."""
        mean: Tensor = self.fc_mu(self.fc_layers(self.conv_layers(coefficients.transpose(1, 2))))
        return mean


class _ShowLayer(nn.Module):
    """Convolution, batch norm, a residual convolution where it halves the steps, LeakyReLU 0.2."""

    def __init__(self, inner: int, outer: int, half: bool = False) -> None:
        super().__init__()
        shape = (4, 2, 1) if half else (3, 1, 1)
        self.residual_layer = nn.Conv1d(inner, outer, *shape) if half else None
        self.conv = nn.Conv1d(inner, outer, *shape)
        self.norm = nn.BatchNorm1d(outer)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return nn.functional.leaky_relu(y if self.residual_layer is None else y + self.residual_layer(x), 0.2)


class _ShowStack(nn.Module):
    """Two layers and a convolution beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._layers = nn.ModuleList([_ShowLayer(channels, channels) for _ in range(2)])
        self.conv = nn.Conv1d(channels, channels, 3, 1, 1)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self._layers:
            y = layer(y)
        return torch.relu(self.norm(self.conv(y)) + x)


class ShowEncoder(Extractor):
    """TalkSHOW's: any number of frames of 129 axis-angle numbers (upper body, hands); 64 features for 4 frames each.

    The released code gives each latent frame as a sample: `features` returns (W * F / 4, 64).
    """

    frames, width = 0, 129

    def __init__(self) -> None:
        super().__init__()
        self.project = _ShowLayer(129, 256)
        self._enc_1 = _ShowStack(256)
        self._down_1 = _ShowLayer(256, 512, half=True)
        self._enc_2 = _ShowStack(512)
        self._down_2 = _ShowLayer(512, 1024, half=True)
        self._enc_3 = _ShowStack(1024)
        self.pre_vq_conv = nn.Conv1d(1024, 64, 1)

    def forward(self, poses: Tensor) -> Tensor:
        """(W, F, 129) to (W * T, 64)."""
        x = self._down_1(self._enc_1(self.project(poses.transpose(1, 2))))
        latent: Tensor = self.pre_vq_conv(self._enc_3(self._down_2(self._enc_2(x))))
        return latent.transpose(1, 2).flatten(0, 1)
