"""The layer chooser: foretells, for every pixel, how much nearer to the truth each layer of the prior would be.

The geometric prior paints its layers in a fixed order with fixed borders. Where it errs it mostly shows the wrong one:
background in a torn sleeve, trunk between arm and body, a piece of arm too many. What should be seen is mostly there,
in another layer. A small U-Net sees the prior, each of its layers alone, and where the bones are, and says by how much
the error would fall if that layer were seen instead. Nothing is painted that the layers do not hold, so nothing blurs.

Letters: F pictures, L layers, S maps of bones, h w size it works at (about 256², multiples of 16).
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from avatar.models.loading import StrictLoading

GROUPS = 8
CELL = 2  # pixels a side that the finest features stand for


def mean_around(x: Tensor, side: int) -> Tensor:
    """(F, C, h, w): means of squares of an odd `side`; at the border, of what lies within."""
    x = functional.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return functional.avg_pool2d(x, (1, side), 1, (0, side // 2), count_include_pad=False)


class _Block(nn.Module):
    """Two 3x3 convolutions before a shortcut; the identity at first where the widths agree."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, in_channels), nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        out: Tensor = self.shortcut(x) + self.conv2(functional.silu(self.norm2(h)))
        return out


class LayerChooser(StrictLoading, ModelMixin, ConfigMixin):
    """A U-Net over the prior's layers; untrained, it keeps the prior."""

    @register_to_config
    def __init__(
        self,
        layers: int = 6,  # L, without the prior itself
        bone_maps: int = 9,  # S
        channels: tuple[int, ...] = (32, 48, 96, 128),  # ours: 2.0 M parameters, 0.2 s a picture on a busy core
        temperature: float = 0.03,  # ours: of the choice, in the units of `forward`
        margin: float = 0.5,  # ours: how much better a layer must be before it is taken
        smooth: int = 5,  # ours: side in pixels of the means that are compared: without, a crisp choice is ragged
    ) -> None:
        super().__init__()
        if smooth % 2 != 1:
            raise ValueError(f"smooth is the odd side of a square, got {smooth}")
        # the prior's colours, the layers', how these differ from it, their coverage and how far they are known; doubt
        self.conv_in = nn.Conv2d(3 + layers * 6 + 1, channels[0], CELL, stride=CELL)
        self.bones_in = nn.Conv2d(bone_maps, channels[0], 1, bias=False)
        self.down = nn.ModuleList(_Block(channels[max(n - 1, 0)], width) for n, width in enumerate(channels))
        self.middle = nn.Sequential(_Block(channels[-1], channels[-1]), _Block(channels[-1], channels[-1]))
        above = (*channels[1:], channels[-1])
        self.up = nn.ModuleList(
            _Block(width + below, width) for width, below in reversed(list(zip(channels, above, strict=True)))
        )
        self.norm_out = nn.GroupNorm(GROUPS, channels[0])
        self.conv_out = nn.Conv2d(channels[0], layers * CELL**2, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        colours: Tensor,  # (F, 1 + L, 3, h, w) in [0, 1]: the prior, then its layers, continued beyond their edges
        coverage: Tensor,  # (F, L, h, w) of the layers
        sure: Tensor,  # (F, L, h, w): coverage times confidence
        doubt: Tensor,  # (F, 1, h, w): 1 - confidence of the prior
        bones: Tensor,  # (F, S, h / 2, w / 2): nearness to bones, in [0, 1]
    ) -> Tensor:
        """(F, L, h, w): error of each layer minus that of the prior, mean over colours in [0, 1], times the
        trainer's `scale`."""
        apart = (colours[:, 1:] - colours[:, :1]).abs().mean(2)
        seen = torch.cat([(colours - 0.5).flatten(1, 2), apart, coverage, sure, doubt], 1)
        h = self.conv_in(seen) + self.bones_in(bones)
        skips = []
        for block in self.down:
            h = block(h)
            skips.append(h)
            h = functional.avg_pool2d(h, 2)
        h = self.middle(h)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            h = block(torch.cat([functional.interpolate(h, size=skip.shape[2:], mode="nearest"), skip], 1))
        return functional.pixel_shuffle(self.conv_out(functional.silu(self.norm_out(h))), CELL)

    def shares(self, advantage: Tensor) -> Tensor:
        """What of each layer is taken, (F, L, h, w) in [0, 1], from what `forward` gave; the rest is the prior."""
        advantage = mean_around(advantage, self.config.smooth)
        own = torch.full_like(advantage[:, :1], self.config.margin)
        logits = torch.cat([own, -advantage], 1) / self.config.temperature
        return logits.softmax(1)[:, 1:]
