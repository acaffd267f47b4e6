"""The reference network: a Stable Diffusion U-Net that turns clean images into features for `AvatarUNet`.

It runs once a video, at timestep 0, on the photo's latents (with its skeleton: CyberHost's pose-aligned reference)
and, once a window, on the motion frames, the last frames already generated. `AvatarUNet.project_reference` then makes
its keys and values once for every frame, step and window.

Shapes: N images, C h w a layer's channels, height, width; L = h * w; S text or image tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ModelMixin, UNet2DConditionModel  # noqa: F401 (ModelMixin: looked up here when a pipeline loads)
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from avatar.models.attention import CaptureSelfAttention, CrossAttention, OwnAttention
from avatar.models.loading import StrictLoading


@dataclass
class ReferenceFeatures:
    """What `ReferenceNet` saw in N images; `keys_values` is there once a U-Net projected them."""

    tokens: dict[str, Tensor]  # self-attention layer of the U-Net -> that layer's input (N, L, C)
    maps: list[Tensor]  # one (N, C, h, w) a motion module of the U-Net, in the order they run
    keys_values: dict[str, tuple[Tensor, Tensor]] | None = None  # layer -> key and value, (N, L, C) each


class ReferenceNet(StrictLoading, OwnAttention, UNet2DConditionModel):
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 4,
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int | None = None,  # width of text or image tokens; None: no cross-attention at all
        attention_head_dim: int | tuple[int, ...] = 8,  # Stable Diffusion's name for the number of heads
        use_linear_projection: bool = False,
    ) -> None:
        # The undecorated parent: its own `register_to_config` would save arguments that ours does not take.
        UNet2DConditionModel.__init__.__wrapped__(
            self,
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=in_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim or 1,  # diffusers insists on one
            attention_head_dim=attention_head_dim,
            use_linear_projection=use_linear_projection,
        )
        self.gradient_checkpointing = False
        if cross_attention_dim is None:
            for module in self.modules():
                if isinstance(module, BasicTransformerBlock):
                    module.attn2 = module.norm2 = None  # which its forward then leaves out
        self.set_attn_processor(
            {
                name: CaptureSelfAttention(name.removesuffix(".processor")) if ".attn1." in name else CrossAttention()
                for name in self.attn_processors
            }
        )
        # Stable Diffusion's end makes no features; frozen, because distributed training refuses unused parameters.
        for unused in (self.conv_norm_out, self.conv_out):
            unused.requires_grad_(False)

    @classmethod
    def matching(cls, unet: Any) -> ReferenceNet:
        """A new reference net, without text, with the widths, layers and heads of an `AvatarUNet`."""
        config = unet.config
        return cls(
            sample_size=config.sample_size,
            in_channels=config.out_channels,
            down_block_types=tuple(name.replace("Motion", "2D") for name in config.down_block_types),
            up_block_types=tuple(name.replace("Motion", "2D") for name in config.up_block_types),
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
            attention_head_dim=config.num_attention_heads,
            use_linear_projection=config.use_linear_projection,
        )

    def encode(
        self,
        latents: Tensor,  # (N, C, H, W): clean, scaled latents
        pose: Tensor | None = None,  # (N, C0, 1, H, W): PoseEncoder of the reference skeleton, kind "reference"
        encoder_hidden_states: Tensor | None = None,  # (N, S, cross_attention_dim)
    ) -> ReferenceFeatures:
        """Features of clean images: the photo, or motion frames folded into the batch (without pose)."""
        return self(latents, pose, encoder_hidden_states)

    def forward(
        self,
        latents: Tensor,
        pose: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
    ) -> ReferenceFeatures:
        # 1. Check
        factor = 2**self.num_upsamplers
        if latents.ndim != 4 or latents.shape[1] != self.config.in_channels:
            raise ValueError(
                f"reference latents have the shape {tuple(latents.shape)}; expected (N, {self.config.in_channels}, "
                "height, width). Fold frames into the first axis."
            )
        height, width = latents.shape[2:]
        if height % factor or width % factor:
            raise ValueError(
                f"reference latents are {height} x {width}; both must be multiples of {factor}. Bring the picture to "
                "the video's working size first."
            )
        expected = (latents.shape[0], self.config.block_out_channels[0], 1, height, width)
        if pose is not None and tuple(pose.shape) != expected:
            raise ValueError(
                f"reference pose features have the shape {tuple(pose.shape)}; expected {expected}, the pose encoder's "
                "output for one frame of the reference's size."
            )

        if (encoder_hidden_states is None) != (self.config.cross_attention_dim is None):
            raise ValueError(
                "this reference net has no text or image tokens; leave encoder_hidden_states out."
                if self.config.cross_attention_dim is None
                else f"encoder_hidden_states is missing; expected (N, S, {self.config.cross_attention_dim}) tokens."
            )

        # 2. Time: a clean image is at timestep 0
        time = self.time_proj(torch.zeros(1, device=latents.device))
        time = self.time_embedding(time.to(latents.dtype)).expand(latents.shape[0], -1)

        # 3. Layers
        tokens: dict[str, Tensor] = {}
        maps: list[Tensor] = []

        def run(module: Callable[..., Any], *args: Any) -> Any:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                return self._gradient_checkpointing_func(module, *args)
            return module(*args)

        def layer(x: Tensor, block: Any, i: int, resnet: nn.Module | None) -> Tensor:
            if resnet is not None:
                x = run(resnet, x, time)
            if hasattr(block, "attentions"):
                x = block.attentions[i](
                    x,
                    encoder_hidden_states=encoder_hidden_states,
                    cross_attention_kwargs={"captured": tokens},
                    return_dict=False,
                )[0]
            maps.append(x)
            return x

        x = self.conv_in(latents)
        if pose is not None:
            x = x + pose[:, :, 0]
        skips = [x]
        for block in self.down_blocks:
            for i, resnet in enumerate(block.resnets):
                x = layer(x, block, i, resnet)
                skips.append(x)
            for downsample in block.downsamplers or ():
                x = downsample(x)
                skips.append(x)
        x = run(self.mid_block.resnets[0], x, time)
        for i, resnet in enumerate(self.mid_block.resnets[1:]):
            x = layer(x, self.mid_block, i, None)
            x = run(resnet, x, time)
        for block in self.up_blocks:
            for i, resnet in enumerate(block.resnets):
                x = layer(torch.cat([x, skips.pop()], dim=1), block, i, resnet)
            for upsample in block.upsamplers or ():
                x = upsample(x)
        return ReferenceFeatures(tokens, maps)

    def freeze_after_last_tokens(self) -> None:
        """Freezes what follows the last recorded self-attention input: without motion frames (training stage 1) it
        gets no gradient."""
        number = max(n for n, block in enumerate(self.up_blocks) if hasattr(block, "attentions"))
        last = self.up_blocks[number].attentions[-1]
        block = last.transformer_blocks[-1]
        after = [block.attn1, block.norm2, block.attn2, block.norm3, block.ff, last.proj_out]
        after += [*(self.up_blocks[number].upsamplers or ()), *self.up_blocks[number + 1 :]]
        for unused in after:
            if unused is not None:  # without text there is no cross-attention
                unused.requires_grad_(False)
