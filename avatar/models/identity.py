"""Identity descriptors: tokens of this person's face and hands, for region codebook attention.

CyberHost takes the face from pretrained ArcFace and the hands from a trainable ResNet-18-like encoder. ArcFace's
weights are not ours to ship, so by default the face has a trainable encoder of the same form; with
`face_embedding_dim=512` it takes an ArcFace embedding computed outside instead.

Crops are the smallest rectangle around the region's keypoints in the photo, resized to `crop_size`.

Shapes: B clips, K crop size in pixels, D identity width, S tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from avatar.models.loading import StrictLoading

GROUPS = 8  # of the group norms: batch norm has no meaning at one crop a GPU


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet's basic block, with group norm)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + self.shortcut(x))


class CropEncoder(nn.Module):
    """A ResNet-18-like network whose last map (K / 32 wide) becomes tokens of a square grid."""

    def __init__(self, widths: tuple[int, ...], blocks_per_stage: int, grid: int, identity_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.conv_in = nn.Conv2d(3, widths[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.norm_in = nn.GroupNorm(GROUPS, widths[0])
        self.blocks = nn.ModuleList()
        previous = widths[0]
        for stage, width in enumerate(widths):
            for i in range(blocks_per_stage):
                stride = 2 if stage > 0 and i == 0 else 1
                self.blocks.append(ResidualBlock(previous, width, stride))
                previous = width
        self.to_tokens = nn.Linear(previous, identity_dim)
        self.positions = nn.Parameter(torch.randn(1, grid * grid, identity_dim) * 0.02)
        self.norm_out = nn.LayerNorm(identity_dim)

    def forward(self, crops: Tensor) -> Tensor:
        """crops (N, 3, K, K) in [-1, 1] -> tokens (N, grid * grid, D)."""
        x = F.max_pool2d(F.relu(self.norm_in(self.conv_in(crops))), kernel_size=3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_avg_pool2d(x, self.grid).flatten(2).transpose(1, 2)
        return self.norm_out(self.to_tokens(x) + self.positions)


class IdentityEncoder(StrictLoading, ModelMixin, ConfigMixin):
    """Crops of face and hands -> `{"face": (B, S, D), "hands": (B, 2 S', D)}`, left hand's tokens first.

    A region that is absent, or dropped for guidance, has learnt null tokens.
    """

    @register_to_config
    def __init__(
        self,
        identity_dim: int = 768,  # D
        crop_size: int = 256,  # K; the published size
        widths: tuple[int, ...] = (64, 128, 256, 512),  # ResNet-18's
        blocks_per_stage: int = 2,  # ResNet-18's
        face_grid: int = 4,  # 16 tokens; ours
        hand_grid: int = 4,  # 16 tokens a hand; ours
        face_embedding_dim: int | None = None,  # 512: the face comes as an ArcFace embedding instead of a crop
        face_embedding_tokens: int = 4,  # Hallo's
    ) -> None:
        super().__init__()
        self.face: nn.Module
        if face_embedding_dim is None:
            self.face = CropEncoder(widths, blocks_per_stage, face_grid, identity_dim)
            face_tokens = face_grid**2
        else:
            self.face = nn.Sequential(
                nn.Linear(face_embedding_dim, face_embedding_tokens * identity_dim),
                nn.Unflatten(1, (face_embedding_tokens, identity_dim)),
                nn.LayerNorm(identity_dim),
            )
            face_tokens = face_embedding_tokens
        self.hand = CropEncoder(widths, blocks_per_stage, hand_grid, identity_dim)
        self.hand_side = nn.Parameter(torch.randn(2, 1, identity_dim) * 0.02)
        self.null_face = nn.Parameter(torch.randn(1, face_tokens, identity_dim) * 0.02)
        self.null_hand = nn.Parameter(torch.randn(2, hand_grid**2, identity_dim) * 0.02)

    def null(self, batch: int) -> dict[str, Tensor]:
        """Tokens of nobody, for a dropped reference."""
        return {
            "face": self.null_face.expand(batch, -1, -1),
            "hands": self.null_hand.flatten(0, 1).expand(batch, -1, -1),
        }

    def forward(
        self,
        face: Tensor,  # (B, 3, K, K) in [-1, 1], or (B, face_embedding_dim) where the model takes embeddings
        hands: Tensor,  # (B, 2, 3, K, K) in [-1, 1]; left, right; an absent hand's crop is not looked at
        hand_present: Tensor,  # (B, 2) bool
        face_present: Tensor | None = None,  # (B,) bool; None: all are
    ) -> dict[str, Tensor]:
        batch, size, embedding = hands.shape[0], self.config.crop_size, self.config.face_embedding_dim
        expected_face = (batch, 3, size, size) if embedding is None else (batch, embedding)
        if tuple(face.shape) != expected_face:
            raise ValueError(
                f"the face has the shape {tuple(face.shape)}; expected {expected_face}: "
                + (f"a crop of {size} x {size} pixels a clip." if embedding is None else "one embedding a clip.")
            )
        if tuple(hands.shape) != (batch, 2, 3, size, size):
            raise ValueError(
                f"hand crops have the shape {tuple(hands.shape)}; expected {(batch, 2, 3, size, size)}: left and "
                f"right crop of {size} x {size} pixels. For an absent hand pass any crop and hand_present false."
            )
        if tuple(hand_present.shape) != (batch, 2) or hand_present.dtype != torch.bool:
            raise ValueError(
                f"hand_present is {hand_present.dtype} of shape {tuple(hand_present.shape)}; expected bool of "
                f"{(batch, 2)}: one flag a hand."
            )
        if face_present is None:
            face_present = torch.ones(batch, dtype=torch.bool, device=hands.device)
        face_tokens = torch.where(face_present[:, None, None], self.face(face), self.null_face)
        crops = torch.where(hand_present[:, :, None, None, None], hands, torch.zeros_like(hands))
        tokens = self.hand(crops.flatten(0, 1)).unflatten(0, (batch, 2)) + self.hand_side
        tokens = torch.where(hand_present[:, :, None, None], tokens, self.null_hand)
        return {"face": face_tokens, "hands": tokens.flatten(1, 2)}
