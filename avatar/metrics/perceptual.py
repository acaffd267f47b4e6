"""Distances by networks: LPIPS between two videos, and the features from which FID and FVD are computed.

Letters: F frames, H W image size, B clips, D features. Videos are uint8 RGB (F, H, W, 3). The weights are brought by
the user (avatar/metrics/networks.py); the name of the file is part of the name of every number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.metrics.networks import TORCHSCRIPT, Network, check_weights, load_tensors, weights_name

Array = NDArray[np.float32]
Video = NDArray[np.uint8]

BATCH = 8
INCEPTION_SIDE = 299
CLIP_FRAMES, CLIP_SIDE = 16, 224  # ours where papers say nothing: I3D's common size, 0.64 s at 25 fps


class AlexNetFeatures(nn.Module):
    """The five ReLU maps of AlexNet (torchvision's layer numbers) with LPIPS' weights a channel (`lin`).

    Zhang et al. 2018, "The unreasonable effectiveness of deep features", eq. 1, version 0.1 of the weights.
    """

    shift: Tensor
    scale: Tensor
    CHANNELS = (64, 192, 384, 256, 256)
    TAPS = (1, 4, 7, 9, 11)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.lin = nn.ParameterList(torch.ones(1, channels, 1, 1) for channels in self.CHANNELS)
        # ImageNet's means and deviations, for images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None], persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:  # (B, 3, H, W) in [-1, 1]
        x, maps = (images - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.TAPS:
                maps.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return maps

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # (B,)
        distance = torch.zeros(first.shape[0], device=first.device)
        for a, b, weight in zip(self.maps(first), self.maps(second), self.lin, strict=True):
            distance = distance + ((a - b) ** 2 * weight).sum(dim=1).mean(dim=(1, 2))
        return distance


class LPIPS:
    """Learned perceptual distance, 0 for equal frames; needs at least 64 pixels a side.

    `path`: a .safetensors of AlexNet with `features.N.weight`, `features.N.bias` as torchvision names them and
    `lin.0` ... `lin.4` (1, C, 1, 1), or an .onnx or TorchScript network of two images (B, 3, H, W) in [-1, 1].
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        path = check_weights(path, "LPIPS", (".safetensors", ".onnx", *TORCHSCRIPT))
        self.device, self._network, self._model = device, None, None
        if path.suffix.lower() == ".safetensors":
            self.name = weights_name(path)
            model = AlexNetFeatures()
            shapes = {name: value.shape for name, value in model.state_dict().items()}
            model.load_state_dict(load_tensors(path, "an AlexNet with LPIPS weights", shapes))
            self._model = model.eval().to(device)
        else:
            self._network = Network(path, "LPIPS", device)
            self.name = self._network.name

    def __call__(self, first: Video, second: Video) -> NDArray[np.float64]:
        """One distance a frame, (F,)."""
        if first.shape != second.shape or first.ndim != 4 or min(first.shape[1:3]) < 64:
            raise ValueError(
                f"LPIPS needs two (F, H, W, 3) of one size of at least 64, got {first.shape}, {second.shape}"
            )
        parts = []
        for start in range(0, len(first), BATCH):
            pair = [_planes(video[start : start + BATCH]) / 127.5 - 1 for video in (first, second)]
            if self._network is not None:
                parts.append(self._network(*pair).reshape(-1))
                continue
            assert self._model is not None
            with torch.inference_mode():
                tensors = [torch.from_numpy(part).to(self.device) for part in pair]
                parts.append(self._model(*tensors).cpu().numpy())
        return np.concatenate(parts).astype(np.float64)


class ImageFeatures:
    """Features (F, D) of frames for FID: a network of (B, 3, 299, 299) RGB in [0, 255], such as the TorchScript
    Inception-v3 of StyleGAN, whose `return_features` is set."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self._network = Network(path, "FID", device, return_features=True)
        self.name = self._network.name

    def __call__(self, video: Video) -> Array:
        images = _planes(_resized(video, INCEPTION_SIDE))
        parts = [
            self._network(images[k : k + BATCH]).reshape(len(images[k : k + BATCH]), -1)
            for k in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts)


class ClipFeatures:
    """Features (B, D) of clips for FVD: a network of (B, 3, 16, 224, 224) RGB in [0, 255], such as the TorchScript
    I3D of StyleGAN-V, whose `rescale`, `resize` and `return_features` are set."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self._network = Network(path, "FVD", device, rescale=True, resize=True, return_features=True)
        self.name = self._network.name

    def __call__(self, video: Video) -> Array:
        """Features of the clips that follow each other without overlap; what is left of the last is not used."""
        if len(video) < CLIP_FRAMES:
            raise ValueError(f"FVD needs {CLIP_FRAMES} frames, got {len(video)}")
        parts = [self._network(clip[None]).reshape(1, -1) for clip in self._clips(video)]
        return np.concatenate(parts)

    def _clips(self, video: Video) -> Iterator[Array]:
        for start in range(0, len(video) - CLIP_FRAMES + 1, CLIP_FRAMES):
            frames = _planes(_resized(video[start : start + CLIP_FRAMES], CLIP_SIDE))
            yield frames.transpose(1, 0, 2, 3)


def _planes(video: Video) -> Array:
    """(F, 3, H, W) float32 of (F, H, W, 3)."""
    return video.transpose(0, 3, 1, 2).astype(np.float32)


def _resized(video: Video, side: int) -> Video:
    """Squares of `side`; area means when shrinking, so that nothing aliases (what FID is most sensitive to)."""

    def one(frame: NDArray) -> NDArray:
        interpolation = cv2.INTER_AREA if min(frame.shape[:2]) >= side else cv2.INTER_CUBIC
        return cv2.resize(frame, (side, side), interpolation=interpolation)

    return np.stack([one(frame) for frame in video]).astype(np.uint8)
