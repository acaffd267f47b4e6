"""Is it still the same person: aligned faces, CSIM by a face-recognition network, and a stand-in without weights.

Letters: F frames, H W image size, D features. Faces are 478 mesh points in pixels (pose/keypoints.py, FACE).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.metrics.networks import Network

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

SIDE = 112
# Where ArcFace wants the eye, eye, nose tip, mouth corner, mouth corner, in the order of the picture from left to
# right (Deng et al. 2019; the five points of InsightFace's 112 x 112 crop), and the mesh points nearest to them.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
FIVE_POINTS = (468, 473, 4, 61, 291)
THUMBNAIL = 32  # pixels of the stand-in: shape and shading of the features without their texture


def aligned_face(image: Image, face: Array) -> Image:
    """The face (478, 2) of an image (H, W, 3) as ArcFace wants it, (112, 112, 3); turned and scaled, never bent."""
    source, target = (np.asarray(points, np.float64) @ (1, 1j) for points in (face[list(FIVE_POINTS)], TEMPLATE))
    centred = source - source.mean()
    power = float((np.abs(centred) ** 2).sum())
    if not np.isfinite(power) or power == 0:
        raise ValueError("the face points lie in one place; check that a face was detected")
    turn = (np.conj(centred) * (target - target.mean())).sum() / power  # least squares: target = turn * source + shift
    shift = target.mean() - turn * source.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    # A crop that shrinks the face is smoothed first, as an area mean would be.
    if abs(turn) < 0.5:
        sigma = 0.35 / abs(turn)
        image = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8)
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.uint8)


class FaceEmbedding:
    """Embeddings of aligned faces; compare them by `cosine`.

    With `path`: ArcFace or another network of (B, 3, 112, 112) RGB in [-1, 1], as .onnx or TorchScript. Without: the
    face as 32 x 32 grey pixels with mean 0 and norm 1. That is no identity (pose, light and mouth count), but where
    these are alike, within one video, it shows a face that slowly becomes another. `name` tells which.
    """

    def __init__(self, path: str | Path | None = None, device: str = "cpu") -> None:
        self._network = None if path is None else Network(path, "CSIM", device)
        self.name = "pixels" if self._network is None else self._network.name

    def __call__(self, faces: NDArray[np.uint8]) -> Array:  # (F, 112, 112, 3) -> (F, D), of norm 1
        if faces.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(f"faces must be (F, {SIDE}, {SIDE}, 3), got {faces.shape}; cut them with aligned_face")
        if self._network is not None:
            inputs = faces.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
            vectors = np.concatenate([self._network(one[None]).reshape(1, -1) for one in inputs])
        else:
            grey = [cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in faces]
            small = [cv2.resize(face, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA) for face in grey]
            vectors = np.stack(small).reshape(len(faces), -1).astype(np.float32)
            vectors = vectors - vectors.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)


def csim(embeddings: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each embedding (F, D) with that of the reference photo (D,), (F,) in [-1, 1], higher is better."""
    if embeddings.ndim != 2 or reference.shape != embeddings.shape[1:]:
        raise ValueError(f"expected embeddings (F, D) and a reference (D,), got {embeddings.shape}, {reference.shape}")
    wide, base = embeddings.astype(np.float64), reference.astype(np.float64)
    return wide @ base / (np.linalg.norm(wide, axis=1) * np.linalg.norm(base))
