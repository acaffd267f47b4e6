"""The pose encoder: drawn conditions (movement box, hand or body skeleton, reference skeleton) to latent features.

One network for all kinds, told apart by a learnt embedding, as the driving swap (box for skeleton) needs. The layout
is Moore-AnimateAnyone's pose guider, three halvings and a zero-initialised end whose output is added after `conv_in`;
CyberHost's own is not public.

Shapes: B clips, F frames, H W latent size (the pictures are 8 times larger), C0 channels after `conv_in`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from avatar.models.loading import StrictLoading

KINDS = ("box", "hands", "body", "reference")
NO_KIND = "none"  # a clip without a pose condition: its features are zero
REDUCTION = 8  # pixels a latent


class PoseEncoder(StrictLoading, ModelMixin, ConfigMixin):
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        out_channels: int = 320,  # C0: `block_out_channels[0]` of the U-Net
        block_out_channels: tuple[int, int, int, int] = (16, 32, 96, 256),  # EchoMimicV2's
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        first, *rest = block_out_channels
        self.conv_in = nn.Conv2d(in_channels, first, kernel_size=3, padding=1)
        self.kind_embedding = nn.Embedding(len(KINDS), first)
        nn.init.normal_(self.kind_embedding.weight, std=0.3)  # about what a drawing gives after conv_in
        self.blocks = nn.ModuleList()
        for width, wider in zip(block_out_channels, rest, strict=False):
            self.blocks.append(nn.Conv2d(width, width, kernel_size=3, padding=1))
            self.blocks.append(nn.Conv2d(width, wider, kernel_size=3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(block_out_channels[-1], out_channels, kernel_size=3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)
        self.gradient_checkpointing = False

    def forward(
        self,
        images: Tensor,  # (B, 3, F, 8 H, 8 W), [0, 1]
        kind: str | Sequence[str],  # one of KINDS or "none", for all clips or one a clip
    ) -> Tensor:  # (B, C0, F, H, W)
        """Features of drawn conditions. Frames are independent: pass a long video in pieces to save memory."""
        if images.ndim != 5 or images.shape[1] != self.config.in_channels:
            raise ValueError(
                f"pose images have the shape {tuple(images.shape)}; expected (B, {self.config.in_channels}, F, "
                "height, width). Add the missing axis, or draw with three colours."
            )
        if images.shape[3] % REDUCTION or images.shape[4] % REDUCTION:
            raise ValueError(
                f"pose images are {images.shape[3]} x {images.shape[4]} pixels; both must be multiples of "
                f"{REDUCTION}. Draw them at the video's working size."
            )
        batch, _, frames = images.shape[:3]
        kinds = [kind] * batch if isinstance(kind, str) else list(kind)
        if len(kinds) != batch:
            raise ValueError(f"{len(kinds)} condition kinds for {batch} clips; pass one for all or one a clip.")
        for name in kinds:
            if name != NO_KIND and name not in KINDS:
                raise ValueError(f"unknown condition kind {name!r}; choose from {', '.join((*KINDS, NO_KIND))}.")

        learning = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if not learning and all(name == NO_KIND for name in kinds):  # learning, each weight is to get its gradient
            shape = (
                batch,
                self.config.out_channels,
                frames,
                images.shape[3] // REDUCTION,
                images.shape[4] // REDUCTION,
            )
            return torch.zeros(shape, dtype=self.dtype, device=images.device)
        index = torch.tensor([0 if name == NO_KIND else KINDS.index(name) for name in kinds], device=images.device)
        present = torch.tensor([name != NO_KIND for name in kinds], device=images.device)
        # (B F) C H W from here on; a CPU takes half the time with the few channels last
        x = self.conv_in(images.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last))
        x = x + self.kind_embedding(index).repeat_interleave(frames, dim=0)[:, :, None, None]
        for conv in self.blocks:
            x = F.silu(x)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(conv, x)
            else:
                x = conv(x)
        x = self.conv_out(F.silu(x)).unflatten(0, (batch, frames)).transpose(1, 2)
        return torch.where(present[:, None, None, None, None], x, torch.zeros_like(x))
