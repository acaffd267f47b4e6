"""The denoising U-Net: diffusers' `UNetMotionModel` layers, walked with the streams of CyberHost.

The layers, their names and their loaders are `UNetMotionModel`'s, so Stable Diffusion 1.5 and AnimateDiff weights load
as they are (`avatar.models.convert`). Only `forward` is ours. It leaves out what this project does not use: FreeU,
IP-Adapter image embeddings, ControlNet residuals, SDXL size embeddings. With every stream off, or its last projection
still zero, the model equals its parent bit for bit.

The order inside a layer: ResNet, self-attention with the reference, audio cross-attention, region codebooks, temporal
attention with motion frames. Pose features are added after `conv_in`, hand clarity to each frame's time embedding.

Shapes: B clips, F frames, M motion frames, C H W latent channels, height, width, C0 channels after `conv_in`, T audio
tokens a frame, S tokens. Inside, frames are folded into the batch: (B F) C H W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from diffusers import ModelMixin, UNetMotionModel  # noqa: F401 (ModelMixin: looked up here when a pipeline loads)
from diffusers.configuration_utils import register_to_config
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from avatar.models.attention import (
    AudioCrossAttention,
    OwnAttention,
    ReferenceSelfAttention,
    SelfAttention,
    TextAudioCrossAttention,
)
from avatar.models.inputs import check_inputs
from avatar.models.loading import StrictLoading
from avatar.models.reference import ReferenceFeatures
from avatar.models.region import HAND_JOINTS, RegionCodebookAttention

REGIONS = ("face", "hands")


def region_layer(block: str, layer: int) -> str:
    """Name of the region modules after a layer of `block` ("down_blocks.0"); module names have no dots."""
    return f"{block.replace('.', '_')}_{layer}"


@dataclass
class AvatarUNetOutput(BaseOutput):
    """What the U-Net predicts; lists have one entry a region module, in the order they run."""

    sample: Tensor  # (B, C, F, H, W)
    region_logits: dict[str, list[Tensor]]  # region -> (B, 1, F, h, w): mask before the sigmoid
    hand_heatmaps: list[Tensor]  # (B, 42, F, h, w): left hand's 21 joints, then right hand's


class HandClarityEmbedding(nn.Module):
    """Sharpness of each hand in each frame -> a residual on the frame's time embedding, zero at the start."""

    def __init__(self, time_dim: int, channels: int = 128) -> None:
        super().__init__()
        self.channels = channels
        self.absent = nn.Parameter(torch.randn(2, channels) * 0.02)
        self.linear_1 = nn.Linear(2 * channels, time_dim)
        self.act = nn.SiLU()
        self.linear_2 = nn.Linear(time_dim, time_dim)
        nn.init.zeros_(self.linear_2.weight)
        nn.init.zeros_(self.linear_2.bias)

    def forward(self, clarity: Tensor) -> Tensor:
        """clarity (B, F, 2): standardised scores of left and right hand, NaN where absent -> (B * F, time_dim)."""
        absent = clarity.isnan()
        scores = torch.where(absent, torch.zeros_like(clarity), clarity).flatten()
        # scale 100 gives wave lengths from 0.06 to 600 standard deviations; chosen by hand
        x = get_timestep_embedding(scores, self.channels, scale=100).unflatten(0, (-1, 2)).to(self.absent.dtype)
        x = torch.where(absent.flatten(0, 1)[..., None], self.absent, x).flatten(1)
        return self.linear_2(self.act(self.linear_1(x)))


class AvatarUNet(StrictLoading, OwnAttention, UNetMotionModel, CacheMixin):
    _repeated_blocks = ["BasicTransformerBlock", "AnimateDiffTransformer3D"]
    _no_split_modules = ["BasicTransformerBlock", "ResnetBlock2D", "RegionCodebookAttention"]
    _skip_layerwise_casting_patterns = ["norm", "codes"]

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 4,  # C, or C + 1 + C with a prior: noisy latents, 1 - confidence, prior latents
        out_channels: int = 4,  # C
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlockMotion",) * 3 + ("DownBlockMotion",),
        up_block_types: tuple[str, ...] = ("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * 3,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int | None = None,  # width of text or image tokens; None: attn2 belongs to the audio
        num_attention_heads: int | tuple[int, ...] = 8,
        use_linear_projection: bool = False,
        motion_num_attention_heads: int | tuple[int, ...] = 8,
        motion_max_seq_length: int = 32,  # positions: frames and motion frames of a window together
        use_motion_mid_block: bool = True,
        audio_dim: int = 768,
        identity_dim: int = 768,
        regions: tuple[str, ...] = REGIONS,
        region_levels: tuple[int, ...] = (0, 1, 2),  # 0 is the finest; one module a region at each block's end; ours
        region_codes: int = 64,  # n of the spatial codebook; ours, not public
        region_temporal_codes: int = 64,  # m; ours, not public
        region_head_channels: int = 64,  # width inside mask and heat-map heads; ours
        hand_clarity: bool = True,
        prior_residual: bool = False,  # ours: predicted is what to add to the prior's latents
    ) -> None:
        # The undecorated parent: its own `register_to_config` would save 19 arguments that ours does not take.
        UNetMotionModel.__init__.__wrapped__(
            self,
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=audio_dim if cross_attention_dim is None else cross_attention_dim,
            num_attention_heads=num_attention_heads,
            use_linear_projection=use_linear_projection,
            motion_num_attention_heads=motion_num_attention_heads,
            motion_max_seq_length=motion_max_seq_length,
            use_motion_mid_block=use_motion_mid_block,
        )
        if in_channels not in (out_channels, 2 * out_channels + 1):
            raise ValueError(
                f"in_channels is {in_channels}; with {out_channels} latent channels it must be {out_channels} (no "
                f"prior) or {2 * out_channels + 1} (noisy latents, mask, prior latents)."
            )
        if prior_residual and in_channels == out_channels:
            raise ValueError(
                "prior_residual adds to the prior and this model has no channels for one; set in_channels"
            )
        if unknown := set(regions) - set(REGIONS):
            raise ValueError(f"unknown regions {sorted(unknown)}; choose from {REGIONS}.")
        self.gradient_checkpointing = False

        if prior_residual:  # before any training, the prior itself, and deaf to the noise that is added to it
            nn.init.zeros_(self.conv_out.weight)
            nn.init.zeros_(self.conv_out.bias)
            nn.init.zeros_(self.conv_in.weight[:, :out_channels])

        # 1. Attention processors
        processors: dict[str, Any] = {}
        for name in self.attn_processors:
            layer = name.removesuffix(".processor")
            attn = self.get_submodule(layer)
            if "motion_modules" in layer:
                processors[name] = SelfAttention()
            elif layer.endswith("attn1"):
                processors[name] = ReferenceSelfAttention()
            elif cross_attention_dim is not None:
                processors[name] = TextAudioCrossAttention(attn.inner_dim, audio_dim)
            else:
                processors[name] = AudioCrossAttention()
                nn.init.zeros_(attn.to_out[0].weight)
                nn.init.zeros_(attn.to_out[0].bias)
        self.set_attn_processor(processors)

        # 2. Regions, after the last layer of the down and the up block of a level
        time_dim = 4 * block_out_channels[0]
        heads = (
            (num_attention_heads,) * len(block_out_channels)
            if isinstance(num_attention_heads, int)
            else num_attention_heads
        )
        self.region_layers = nn.ModuleDict()
        for level in region_levels:
            for name, layer_count in (
                (f"down_blocks.{level}", layers_per_block),
                (f"up_blocks.{len(block_out_channels) - 1 - level}", layers_per_block + 1),
            ):
                self.region_layers[region_layer(name, layer_count - 1)] = nn.ModuleDict(
                    {
                        region: RegionCodebookAttention(
                            block_out_channels[level],
                            identity_dim,
                            time_dim,
                            num_codes=region_codes,
                            num_temporal_codes=region_temporal_codes,
                            heads=heads[level],
                            norm_groups=norm_num_groups,
                            head_channels=region_head_channels,
                            num_joints=HAND_JOINTS if region == "hands" else 0,
                        )
                        for region in regions
                    }
                )

        # 3. Hand clarity
        # Not `hand_clarity`: diffusers answers that name with the config field.
        self.clarity_embedding = HandClarityEmbedding(time_dim) if hand_clarity else None

    @property
    def num_motion_modules(self) -> int:
        """How many maps of motion frames `forward` takes."""
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return sum(len(getattr(block, "motion_modules", ())) for block in blocks)

    @classmethod
    def from_unet2d(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(
            "AvatarUNet has layers that from_unet2d does not know; build it with "
            "avatar.models.convert.from_stable_diffusion(...), which says what became of every tensor."
        )

    @apply_forward_hook
    def project_reference(self, features: ReferenceFeatures) -> ReferenceFeatures:
        """Keys and values of the reference in every self-attention layer, once for all frames, steps and windows."""
        keys_values = {}
        for layer, tokens in features.tokens.items():
            attn = self.get_submodule(layer)
            keys_values[layer] = (attn.to_k(tokens), attn.to_v(tokens))
        return ReferenceFeatures(features.tokens, features.maps, keys_values)

    def motion_maps(self, features: ReferenceFeatures, batch: int) -> list[Tensor]:
        """`forward`'s `motion` from `ReferenceNet.encode` of motion frames (B * M, C, H, W)."""
        maps = list(features.maps)
        if not self.config.use_motion_mid_block:
            del maps[len(self.down_blocks) * self.config.layers_per_block]
        return [x.unflatten(0, (batch, -1)) for x in maps]

    def forward(
        self,
        sample: Tensor,  # (B, in_channels, F, H, W)
        timestep: Tensor | int,  # one for all, (B,) a clip or (B, F) a frame
        encoder_hidden_states: Tensor | None = None,  # (B, S, cross_attention_dim): text or image tokens
        *,
        audio: Tensor | None = None,  # (B, F, T, audio_dim); None is the same as zeros
        pose: Tensor | None = None,  # (B, C0, F, H, W): the pose encoder's output
        reference: ReferenceFeatures | None = None,  # of one image for all clips, or one a clip
        keep_reference: Tensor | None = None,  # (B,) bool; False: as if there were no reference
        motion: list[Tensor] | None = None,  # one (B or 1, M, C, h, w) a motion module: `motion_maps`
        keep_motion: Tensor | None = None,  # (B,) bool; False: maps of zero, as in a first window (EMO)
        identity: dict[str, Tensor] | None = None,  # region -> (B, S, identity_dim); a region left out is off
        hand_clarity: Tensor | None = None,  # (B, F, 2) standardised; NaN: no such hand in the frame
        temporal: bool = True,  # False for single frames: neither motion modules nor temporal codebooks
        heatmaps: bool | None = None,  # predict `hand_heatmaps`; None: while gradients are recorded
        return_dict: bool = True,
    ) -> AvatarUNetOutput | tuple[Tensor, dict[str, list[Tensor]], list[Tensor]]:
        check_inputs(self, sample, encoder_hidden_states, audio, pose, reference, motion, identity, hand_clarity)
        batch, _, frames, _, _ = sample.shape
        motion_frames = motion[0].shape[1] if motion else 0
        heatmaps = torch.is_grad_enabled() if heatmaps is None else heatmaps

        # 1. Time, a frame each
        timestep = torch.as_tensor(timestep, device=sample.device)
        if tuple(timestep.shape) not in ((), (1,), (batch,), (batch, frames)):
            raise ValueError(
                f"timestep has the shape {tuple(timestep.shape)}; expected one number, ({batch},) for the clips or "
                f"({batch}, {frames}) for their frames."
            )
        if timestep.ndim == 2:
            time = self.time_embedding(self.time_proj(timestep.flatten()).to(sample.dtype))
        else:
            time = self.time_embedding(self.time_proj(timestep.expand(batch)).to(sample.dtype))
            time = time.repeat_interleave(frames, dim=0, output_size=batch * frames)
        if hand_clarity is not None:
            if self.clarity_embedding is None:
                raise ValueError("this model was built with hand_clarity=False; leave hand_clarity out.")
            time = time + self.clarity_embedding(hand_clarity)

        # 2. Conditions of the attention layers
        context = encoder_hidden_states
        if context is not None:
            context = context.repeat_interleave(frames, dim=0, output_size=batch * frames)
        if reference is not None and reference.keys_values is None:
            reference = self.project_reference(reference)
        keys_values = None if reference is None else reference.keys_values
        conditions = {
            "keep_reference": keep_reference,
            "audio": None if audio is None else audio.flatten(0, 1),
            "batch": batch,
        }
        pending = iter(motion or ())
        logits: dict[str, list[Tensor]] = {region: [] for region in identity or ()}
        joints: list[Tensor] = []

        def unfold(x: Tensor) -> Tensor:  # (B F) C H W -> B C F H W
            return x.unflatten(0, (batch, frames)).transpose(1, 2)

        def run(module: Callable[..., Any], *args: Any) -> Any:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                return self._gradient_checkpointing_func(module, *args)
            return module(*args)

        def layer(x: Tensor, name: str, block: Any, i: int, resnet: nn.Module | None) -> Tensor:
            """ResNet, spatial attention, regions, motion: one layer of any level."""
            if resnet is not None:
                x = run(resnet, x, time)
            if hasattr(block, "attentions"):
                # Only this layer's keys: a processor that looked itself up by name would be compiled anew each time.
                attn = f"{name}.attentions.{i}.transformer_blocks.0.attn1"
                own = {**conditions, "reference": None if keys_values is None else keys_values[attn]}
                x = block.attentions[i](
                    x, encoder_hidden_states=context, cross_attention_kwargs=own, return_dict=False
                )[0]
            if identity and region_layer(name, i) in self.region_layers:
                residuals = []
                modules: Any = self.region_layers[region_layer(name, i)]
                for region, tokens in identity.items():
                    out = run(modules[region], x, tokens, time, frames, temporal, heatmaps)
                    residuals.append(out.residual)
                    logits[region].append(unfold(out.mask_logits))
                    if out.heatmaps is not None:
                        joints.append(unfold(out.heatmaps))
                x = x + sum(residuals)
            if not temporal or not hasattr(block, "motion_modules"):
                return x
            before = next(pending, None)
            if before is None:
                return run(block.motion_modules[i], x, None, None, None, frames)
            before = before.expand(batch, -1, -1, -1, -1)
            if keep_motion is not None:
                before = before * keep_motion[:, None, None, None, None]
            x = torch.cat([before, x.unflatten(0, (batch, frames))], dim=1).flatten(0, 1)
            x = run(block.motion_modules[i], x, None, None, None, motion_frames + frames)
            return x.unflatten(0, (batch, motion_frames + frames))[:, motion_frames:].flatten(0, 1)

        # 3. Input
        x = self.conv_in(sample.transpose(1, 2).flatten(0, 1))  # (B F) C H W from here on
        if pose is not None:
            x = x + pose.transpose(1, 2).flatten(0, 1)

        # 4. Down
        skips = [x]
        for level, block in enumerate(self.down_blocks):
            for i, resnet in enumerate(block.resnets):
                x = layer(x, f"down_blocks.{level}", block, i, resnet)
                skips.append(x)
            for downsample in block.downsamplers or ():
                x = downsample(x)
                skips.append(x)

        # 5. Middle
        x = run(self.mid_block.resnets[0], x, time)
        for i, resnet in enumerate(self.mid_block.resnets[1:]):
            x = layer(x, "mid_block", self.mid_block, i, None)
            x = run(resnet, x, time)

        # 6. Up
        for level, block in enumerate(self.up_blocks):
            for i, resnet in enumerate(block.resnets):
                x = layer(torch.cat([x, skips.pop()], dim=1), f"up_blocks.{level}", block, i, resnet)
            for upsample in block.upsamplers or ():
                x = upsample(x)

        # 7. Output
        x = unfold(self.conv_out(self.conv_act(self.conv_norm_out(x))))
        if self.config.prior_residual:
            x = x.float() + sample[:, -self.config.out_channels :]  # half precision would round the prior
        return AvatarUNetOutput(x, logits, joints) if return_dict else (x, logits, joints)

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """Regional torch.compile: every width, and every pass of guidance, compiles the block's code once more."""
        import torch._dynamo  # seconds to import, and needed here alone

        # Three widths and three passes are 9 already; torch stops at 8, with an error where fullgraph is asked for.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
        super().compile_repeated_blocks(*args, **kwargs)

    def enable_group_offload(self, onload_device: torch.device, *args: Any, **kwargs: Any) -> None:
        offload_type = kwargs.get("offload_type", args[1] if len(args) > 1 else "block_level")
        if offload_type != "leaf_level":
            raise ValueError(
                f"group offload {offload_type!r} hooks whole blocks, which this model's forward never calls; "
                "pass offload_type='leaf_level'."
            )
        super().enable_group_offload(onload_device, *args, **kwargs)
