"""What `AvatarUNet.forward` accepts, checked before anything is computed.

Shapes: B clips, F frames, M motion frames, C0 channels after `conv_in`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from avatar.models.reference import ReferenceFeatures


def check_inputs(
    unet: Any,  # AvatarUNet
    sample: Tensor,
    encoder_hidden_states: Tensor | None,
    audio: Tensor | None,
    pose: Tensor | None,
    reference: ReferenceFeatures | None,
    motion: list[Tensor] | None,
    identity: dict[str, Tensor] | None,
    hand_clarity: Tensor | None,
) -> None:
    """ValueError where a condition does not fit the sample or the model; arguments as of `AvatarUNet.forward`."""
    config = unet.config
    if sample.ndim != 5 or sample.shape[1] != config.in_channels:
        raise ValueError(
            f"sample has the shape {tuple(sample.shape)}; expected (B, {config.in_channels}, F, height, width). "
            "A model with a prior takes noisy latents, mask and prior latents joined in this order."
        )
    batch, _, frames, height, width = sample.shape
    factor = 2**unet.num_upsamplers
    if height % factor or width % factor:
        raise ValueError(
            f"latents are {height} x {width}; both must be multiples of {factor}. Choose a working size in "
            f"multiples of {8 * factor} pixels."
        )
    if (encoder_hidden_states is None) != (config.cross_attention_dim is None):
        raise ValueError(
            "this model has no text or image tokens; leave encoder_hidden_states out."
            if config.cross_attention_dim is None
            else f"encoder_hidden_states is missing; this model needs (B, S, {config.cross_attention_dim}) tokens."
        )
    if motion and len(motion) != unet.num_motion_modules:
        raise ValueError(
            f"{len(motion)} maps of motion frames for {unet.num_motion_modules} motion modules; make them with "
            "`unet.motion_maps(reference_net.encode(latents), batch)`."
        )
    tensors: list[tuple[str, Tensor | None, tuple[int | None, ...]]] = [
        ("audio", audio, (batch, frames, None, config.audio_dim)),
        ("pose", pose, (batch, config.block_out_channels[0], frames, height, width)),
        ("hand_clarity", hand_clarity, (batch, frames, 2)),
        ("motion[0]", motion[0] if motion else None, (None, None, config.block_out_channels[0], height, width)),
        ("encoder_hidden_states", encoder_hidden_states, (batch, None, config.cross_attention_dim)),
    ]
    for region, tokens in (identity or {}).items():
        if region not in config.regions:
            raise ValueError(f"identity has the region {region!r}; this model has {tuple(config.regions)}.")
        tensors.append((f"identity[{region!r}]", tokens, (batch, None, config.identity_dim)))
    for name, tensor, shape in tensors:
        if tensor is not None and (
            tensor.ndim != len(shape)
            or any(want not in (None, got) for got, want in zip(tensor.shape, shape, strict=True))
        ):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(
                f"{name} has the shape {tuple(tensor.shape)}; expected ({wanted}) for a sample of "
                f"{tuple(sample.shape)}. Bring it to the sample's clips, frames and size first."
            )
    if reference is not None:
        images, _, *seen = reference.maps[0].shape
        if images not in (1, batch) or seen != [height, width]:
            raise ValueError(
                f"the reference is of {images} images of {seen[0]} x {seen[1]} latents; expected 1 or {batch} images "
                f"of {height} x {width}. Encode the photo at the video's size."
            )
    motion_frames = motion[0].shape[1] if motion else 0
    if frames + motion_frames > config.motion_max_seq_length:
        raise ValueError(
            f"{frames} frames and {motion_frames} motion frames exceed the {config.motion_max_seq_length} "
            "positions of the motion modules; pass a shorter window or build the model with a larger "
            "`motion_max_seq_length`."
        )
