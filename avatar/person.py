"""What the video pipeline computes of the photo once and every window shares.

Letters: C0 channels after the U-Net's `conv_in`, H W image size, h w latent size, S tokens, D identity width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar import conditions
from avatar.models.identity import IdentityEncoder
from avatar.models.reference import ReferenceFeatures
from pose.keypoints import Keypoints

Array = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Person:
    """The photo as the U-Net sees it."""

    features: ReferenceFeatures  # with keys and values
    identity: dict[str, Tensor] | None  # region -> (1, S, D)
    nobody: dict[str, Tensor] | None  # the same of a dropped reference
    clarity: Tensor  # (1, 1, 2) standardised, NaN for a hand that is not in the photo
    box: Tensor | None  # (1, C0, 1, h, w): the movement box, encoded

    def seen(self, keep: bool) -> dict[str, Any]:
        """What the U-Net is told of the person; not `keep`: as in training with a dropped reference."""
        if keep:
            return {"reference": self.features, "identity": self.identity}
        return {"reference": None, "identity": self.nobody}


def wanted_clarity(keypoints: Keypoints, scores: float | tuple[float, float]) -> Tensor:
    """Standardised hand clarity (1, F, 2) to ask for, left then right; NaN where a hand is not in view."""
    present = torch.from_numpy(np.isfinite(conditions.region_boxes(keypoints, "hands")[..., 0]))
    wanted = torch.tensor(scores, dtype=torch.float32).expand(2)
    return torch.where(present, wanted, torch.full_like(wanted, torch.nan))[None]


def identity_tokens(
    encoder: IdentityEncoder,
    image: Image,
    reference: Keypoints,
    face_embedding: Tensor | None,  # (1, D) where the encoder takes one instead of a crop
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Tokens of the photo's face and hands: region -> (1, S, D)."""
    config = encoder.config
    if (config.face_embedding_dim is None) != (face_embedding is None):
        raise ValueError(
            f"the identity encoder takes {'a face crop' if config.face_embedding_dim is None else 'an embedding'} and "
            f"got face_embedding {'None' if face_embedding is None else 'given'}; pass it only where it is needed"
        )
    boxes = np.concatenate([conditions.region_boxes(reference, region)[0] for region in ("face", "hands")])  # (3, 4)
    present = torch.from_numpy(np.isfinite(boxes[:, 0]))
    crops = torch.zeros(3, 3, config.crop_size, config.crop_size)
    for number in present.nonzero().flatten().tolist():
        crop = conditions.square_crop(image, boxes[number], config.crop_size)
        crops[number] = torch.from_numpy(crop).permute(2, 0, 1) / 127.5 - 1
    face = crops[:1] if face_embedding is None else face_embedding
    seen = present[:1] | (face_embedding is not None)
    return encoder(
        face.to(device, dtype), crops[None, 1:].to(device, dtype), present[None, 1:].to(device), seen.to(device)
    )


def check_photo(image: NDArray[np.uint8], reference: Keypoints, multiple: int) -> None:
    """ValueError unless `image` is (H, W, 3) uint8, H and W multiples of `multiple`, and `reference` its keypoints."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}; convert it first")
    if image.shape[0] % multiple or image.shape[1] % multiple:
        raise ValueError(f"image sides must be multiples of {multiple}, got {image.shape[:2]}; resize the photo")
    if len(reference) != 1 or reference.size != image.shape[:2]:
        raise ValueError(
            f"reference must be one frame of keypoints of the photo {image.shape[:2]}, got {len(reference)} of "
            f"size {reference.size}; detect on the working image"
        )
