"""The trunk of DiffuseStyleGesture and its descendants: cross-local attention, then a transformer over the window.

Yang et al. 2023, "DiffuseStyleGesture", section 3; released code where the paper is silent: the local attention has no
parameters (queries, keys and values are the tokens themselves), no residual and no norm, and rotary positions turn the
tokens, not the queries and keys of a layer.

Letters: B clips, F frames, E width, h heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pose.models.denoiser import Condition, sinusoid


def rotate_by_position(tokens: Tensor, heads: int) -> Tensor:
    """Rotary positions (Su et al. 2021) on each head's share of (B, F, E), first half of the share with the second."""
    half = tokens.shape[-1] // heads // 2
    rates = 10000.0 ** (-torch.arange(half, device=tokens.device) / half)
    angle = torch.arange(tokens.shape[1], device=tokens.device)[:, None, None] * rates  # (F, 1, E / 2h)
    first, second = tokens.unflatten(-1, (heads, 2, half)).unbind(-2)
    cosine, sine = angle.cos().to(tokens.dtype), angle.sin().to(tokens.dtype)
    return torch.stack([first * cosine - second * sine, second * cosine + first * sine], -2).flatten(-3)


def local_mask(frames: int, window: int, device: torch.device) -> Tensor:
    """(F, F), True where frame i may look at frame j: not later than i, in i's own window or the one before."""
    place = torch.arange(frames, device=device)
    block = place // window
    return (place <= place[:, None]) & (block[:, None] - block <= 1)


class CrossLocalTrunk(nn.Module):
    """Frames' tokens and one clip token to features of each frame."""

    def __init__(
        self,
        width: int,  # E
        input_width: int,  # of what comes in for each frame
        layers: int,
        heads: int,  # of the transformer
        feedforward: int,
        local_heads: int,
        local_window: int,  # frames
        dropout: float,
    ) -> None:
        super().__init__()
        if width % (2 * local_heads) or width % heads:
            raise ValueError(
                f"width {width} must be a multiple of {heads} heads and of twice {local_heads} local heads"
            )
        self.local_heads, self.local_window, self.dropout = local_heads, local_window, dropout
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.fuse = nn.Linear(input_width, width)
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.width = width

    def clip_token(self, timestep: Tensor, condition: Condition) -> Tensor:
        """(B, E): noise level plus what is said of the whole clip."""
        assert condition.clip is not None
        return self.time(sinusoid(timestep, self.width).to(condition.clip.dtype)) + condition.clip

    def forward(self, clip: Tensor, frames: list[Tensor]) -> Tensor:
        """`clip` (B, E) and parts (B, F, ·) that together are `input_width` wide, after the clip's, to (B, F, E)."""
        length = frames[0].shape[1]
        tokens = self.fuse(torch.cat([clip[:, None].expand(-1, length, -1), *frames], -1))
        # 1. Cross-local attention
        tokens = rotate_by_position(tokens, self.local_heads)
        heads = tokens.unflatten(-1, (self.local_heads, -1)).transpose(1, 2)  # (B, h, F, E / h)
        mask = local_mask(length, self.local_window, tokens.device)
        heads = F.scaled_dot_product_attention(
            heads, heads, heads, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        tokens = heads.transpose(1, 2).flatten(2)
        # 2. Self-attention over the clip token and the window
        tokens = rotate_by_position(torch.cat([clip[:, None], tokens], 1), self.local_heads)
        return self.encoder(tokens)[:, 1:]
