"""Region codebook attention (CyberHost §3; v3 of the paper: region attention module): detail for face and hands.

    F_out = F_in + (F_motion + F_id) · M

F_motion: attention of the features to a spatial and a temporal codebook of learnt, mutually orthogonal codes, the same
for everybody. F_id: attention to tokens of this person's face or hand crop. M: a soft mask of the region, predicted
from the features and trained with boxes, so that no detector is needed when generating.

Attention to codes shared by all positions is pointwise in its queries, so a temporal codebook attended to as it stands
would be a second spatial one. Its queries carry the frame's position here. Sizes, the mask head's form, the shared
query and output projections are ours (the paper's are not public); the orthogonality method is Gram-Schmidt's as
reported in notes on v2.

Shapes: B clips, F frames, C channels, H W latent size, L = H * W, N codes, S identity tokens, E time embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.models.attention import attend

HAND_JOINTS = 42  # 21 a hand, the person's left hand first


def orthonormal_rows(codes: Tensor) -> Tensor:
    """Rows of `codes` (N, C), N <= C, made orthonormal in float32: Gram-Schmidt's result, by QR with signs fixed.

    QR is done at every forward, so that the codes stay orthogonal while they are trained.
    """
    basis, triangle = torch.linalg.qr(codes.float().T)  # (C, N), (N, N)
    sign = torch.where(triangle.diagonal() < 0, -1.0, 1.0)  # QR is unique once the diagonal is positive
    return (basis * sign).T


def frame_positions(num_frames: int, channels: int, device: torch.device) -> Tensor:
    """Sinusoids of the frame's index in its window, (F, C), float32."""
    rates = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10000.0) / channels))
    angles = torch.arange(num_frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels]


@dataclass
class RegionOutput:
    residual: Tensor  # (B * F, C, H, W): (F_motion + F_id) · M
    mask_logits: Tensor  # (B * F, 1, H, W)
    heatmaps: Tensor | None  # (B * F, joints, H, W), about 1 at a joint and 0 elsewhere


class Codebook(nn.Module):
    """N learnt codes with their keys and values."""

    def __init__(self, num_codes: int, channels: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_codes, channels))
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)

    def orthogonal(self) -> Tensor:
        """The codes as they are used, (N, C): orthogonal, each of length sqrt(C) so that entries are about 1."""
        return orthonormal_rows(self.codes) * self.codes.shape[1] ** 0.5

    def forward(self, query: Tensor, heads: int) -> Tensor:
        """query (B * F, L, C) -> (B * F, L, C)."""
        codes = self.orthogonal().to(query.dtype)[None]
        # All queries see the same few keys: one long sequence instead of B * F copies of the keys.
        out = attend(query.flatten(0, 1)[None], self.to_k(codes), self.to_v(codes), heads)
        return out[0].unflatten(0, query.shape[:2])


class RegionCodebookAttention(nn.Module):
    def __init__(
        self,
        channels: int,
        identity_dim: int,
        time_dim: int,  # E
        num_codes: int = 64,
        num_temporal_codes: int = 64,
        heads: int = 8,
        norm_groups: int = 32,
        head_channels: int = 64,  # width inside the mask and heat-map heads
        num_joints: int = 0,  # heat maps predicted: HAND_JOINTS for hands, 0 for the face
    ) -> None:
        super().__init__()
        if max(num_codes, num_temporal_codes) > channels:
            raise ValueError(
                f"{num_codes} spatial and {num_temporal_codes} temporal codes cannot be orthogonal in {channels} "
                f"channels; set `region_codes` and `region_temporal_codes` to at most {channels} or drop this level."
            )
        self.heads = heads
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.spatial = Codebook(num_codes, channels)
        self.temporal = Codebook(num_temporal_codes, channels)
        self.to_q_motion = nn.Linear(channels, channels, bias=False)
        self.to_q_identity = nn.Linear(channels, channels, bias=False)
        self.to_k_identity = nn.Linear(identity_dim, channels, bias=False)
        self.to_v_identity = nn.Linear(identity_dim, channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.to_out.weight)  # the U-Net starts as it was without regions

        # The mask head hears the time: masks read from noise and from a clean image differ (a reviewer's point).
        self.mask_in = nn.Conv2d(channels, head_channels, kernel_size=1)
        self.mask_time = nn.Linear(time_dim, head_channels)
        self.mask_out = nn.Conv2d(head_channels, 1, kernel_size=3, padding=1)
        self.mask_out.bias = nn.Parameter(
            torch.full((1,), -2.0)
        )  # sigmoid 0.12: about a region's share of the picture; ours
        self.heatmap = (
            nn.Sequential(
                nn.Conv2d(channels, head_channels, kernel_size=1),
                nn.SiLU(),
                nn.Conv2d(head_channels, num_joints, kernel_size=3, padding=1),
            )
            if num_joints
            else None
        )

    def forward(
        self,
        x: Tensor,  # (B * F, C, H, W)
        identity: Tensor,  # (B, S, identity_dim)
        time: Tensor,  # (B * F, E)
        num_frames: int,
        temporal: bool = True,
        heatmaps: bool = False,
    ) -> RegionOutput:
        batch = x.shape[0] // num_frames
        h = self.norm(x)

        # 1. Motion: codes that everybody shares
        tokens = h.flatten(2).transpose(1, 2)  # (B F) L C
        query = self.to_q_motion(tokens)
        out = self.spatial(query, self.heads)
        if temporal:
            positions = frame_positions(num_frames, x.shape[1], x.device).to(x.dtype)
            # to_q is linear: the positions' share of the query is added after the projection
            query = query.unflatten(0, (batch, num_frames)) + self.to_q_motion(positions)[:, None]
            out = out + self.temporal(query.flatten(0, 1), self.heads)

        # 2. Identity: tokens of this person's crop, one sequence a clip
        query = self.to_q_identity(tokens).unflatten(0, (batch, num_frames)).flatten(1, 2)  # B (F L) C
        seen = attend(query, self.to_k_identity(identity), self.to_v_identity(identity), self.heads)
        out = out + seen.unflatten(1, (num_frames, -1)).flatten(0, 1)

        # 3. Mask
        logits = self.mask_in(h) + self.mask_time(F.silu(time))[:, :, None, None]
        logits = self.mask_out(F.silu(logits))
        residual = self.to_out(out).transpose(1, 2).reshape(x.shape) * logits.sigmoid()

        joints = self.heatmap(x + residual) if heatmaps and self.heatmap is not None else None
        return RegionOutput(residual, logits, joints)
