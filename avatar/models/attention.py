"""Attention processors: reference keys and values, audio tokens, and temporal attention on any backend.

Diffusers calls a processor as `processor(attn, hidden_states, ...)`; `attn` owns the weights, the processor owns the
arithmetic. No processor keeps anything between calls: what it needs arrives through `cross_attention_kwargs`, so
checkpointing, compilation and two requests at once stay correct. `cross_attention_kwargs` reaches the spatial layers'
attn1 and attn2 alike and diffusers warns about a name that a processor does not declare, so both kinds of a network
declare the same names.

Shapes: B clips, F frames, L = H * W latent pixels, S context tokens, T audio tokens a frame, C channels of the layer.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

MAX_SEQUENCES = 65535  # of one attention call: the kernels put sequences on a CUDA grid axis that ends there


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, backend: Any = None) -> Tensor:
    """Multi-head attention of projected `query` (N, L, C) over `key` and `value` (N, S, C); (N, L, C).

    No mask anywhere, so flash, sage and xformers serve as well as torch's own (`attention_backend(...)`).
    """
    if query.shape[0] > MAX_SEQUENCES:  # motion modules at a batch of eight 768² clips: one sequence a position
        parts = zip(*(x.split(MAX_SEQUENCES) for x in (query, key, value)), strict=True)
        return torch.cat([attend(q, k, v, heads, backend) for q, k, v in parts])
    query, key, value = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
    return dispatch_attention_fn(query, key, value, backend=backend).flatten(-2)


class SelfAttention:
    """Plain self-attention, for motion modules: diffusers' own processor would ignore the attention backend."""

    _attention_backend: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (N, L, C)
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        return attn.to_out[0](attend(query, key, value, attn.heads, self._attention_backend))


class ReferenceSelfAttention:
    """Self-attention over the frame's own tokens and the reference image's keys and values of the same layer.

    A clip whose reference is dropped attends to its own tokens twice, which leaves softmax attention exactly as it
    was without a reference: no mask is needed.
    """

    _attention_backend: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (B * F, L, C)
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        reference: tuple[Tensor, Tensor] | None = None,  # this layer's key and value, (B or 1, L, C) each
        keep_reference: Tensor | None = None,  # (B,) bool
        audio: Tensor | None = None,
        batch: int = 1,  # B
    ) -> Tensor:
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        if reference is not None:
            key, value = (
                beside_reference(own, other, keep_reference, batch)
                for own, other in zip((key, value), reference, strict=True)
            )
        return attn.to_out[0](attend(query, key, value, attn.heads, self._attention_backend))


def beside_reference(own: Tensor, reference: Tensor, keep: Tensor | None, batch: int) -> Tensor:
    """A clip's frames' keys (or values) (B * F, L, C) followed by its reference's (B or 1, L, C): (B * F, 2 L, C)."""
    own = own.unflatten(0, (batch, -1))  # B F L C
    other = reference[:, None].expand_as(own)
    if keep is not None:
        other = torch.where(keep[:, None, None, None], other, own)
    return torch.cat([own, other], dim=2).flatten(0, 1)


class AudioCrossAttention:
    """Cross-attention to the frame's audio tokens, for a U-Net without text: attn2's own weights are the audio's.

    No audio is the same as tokens of zero (to_k and to_v have no bias): the layer's output bias is left.
    """

    _attention_backend: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (B * F, L, C)
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        reference: tuple[Tensor, Tensor] | None = None,
        keep_reference: Tensor | None = None,
        audio: Tensor | None = None,  # (B * F, T, audio_dim)
        batch: int = 1,
    ) -> Tensor:
        if audio is None:
            return torch.zeros_like(hidden_states) + attn.to_out[0].bias
        query, key, value = attn.to_q(hidden_states), attn.to_k(audio), attn.to_v(audio)
        return attn.to_out[0](attend(query, key, value, attn.heads, self._attention_backend))


class TextAudioCrossAttention(nn.Module):
    """Cross-attention to text or image tokens plus, with its own keys and values, to the frame's audio tokens.

    The audio branch starts at zero (`to_out_audio`, without bias), so a model built from Stable Diffusion weights is
    unchanged until it is trained, and audio tokens of zero are the same as no audio.
    """

    def __init__(self, width: int, audio_dim: int) -> None:
        super().__init__()
        self._attention_backend: Any = None
        self.to_k_audio = nn.Linear(audio_dim, width, bias=False)
        self.to_v_audio = nn.Linear(audio_dim, width, bias=False)
        self.to_out_audio = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.to_out_audio.weight)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (B * F, L, C)
        encoder_hidden_states: Tensor | None = None,  # (B * F, S, cross_attention_dim)
        attention_mask: Tensor | None = None,
        reference: tuple[Tensor, Tensor] | None = None,
        keep_reference: Tensor | None = None,
        audio: Tensor | None = None,  # (B * F, T, audio_dim)
        batch: int = 1,
    ) -> Tensor:
        query = attn.to_q(hidden_states)
        key, value = attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        out = attn.to_out[0](attend(query, key, value, attn.heads, self._attention_backend))
        if audio is not None:
            key, value = self.to_k_audio(audio), self.to_v_audio(audio)
            out = out + self.to_out_audio(attend(query, key, value, attn.heads, self._attention_backend))
        return out


class CaptureSelfAttention:
    """Plain self-attention of the reference net that also records its input, for `ReferenceSelfAttention`."""

    _attention_backend: Any = None

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (N, L, C)
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        captured: dict[str, Tensor] | None = None,  # layer -> (N, L, C), written here
    ) -> Tensor:
        if captured is not None:
            captured[self.layer] = hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        return attn.to_out[0](attend(query, key, value, attn.heads, self._attention_backend))


class CrossAttention:
    """Plain cross-attention of the reference net, which accepts what `CaptureSelfAttention` is passed."""

    _attention_backend: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,  # (N, L, C)
        encoder_hidden_states: Tensor | None = None,  # (N, S, cross_attention_dim)
        attention_mask: Tensor | None = None,
        captured: dict[str, Tensor] | None = None,
    ) -> Tensor:
        query, key = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states)
        value = attn.to_v(encoder_hidden_states)
        return attn.to_out[0](attend(query, key, value, attn.heads, self._attention_backend))


class OwnAttention:
    """Mixin that refuses the diffusers switches which replace attention processors, and with them their weights.

    `Attention.set_attention_slice` alone would drop every trained audio tensor with no more than an info log.
    """

    def _refuse(self, method: str) -> NoReturn:
        raise ValueError(
            f"{type(self).__name__}.{method} would replace this model's attention processors and lose what they do; "
            "choose a backend instead: `with attention_backend('xformers'):` or `model.set_attention_backend(...)`."
        )

    def set_use_memory_efficient_attention_xformers(self, valid: bool, attention_op: Any = None) -> None:
        if valid:
            self._refuse("enable_xformers_memory_efficient_attention")

    def set_attention_slice(self, slice_size: Any) -> None:
        # Pipelines call this with None to switch slicing off, which is how it always is here.
        if slice_size is not None:
            self._refuse("set_attention_slice")

    def fuse_qkv_projections(self) -> None:
        self._refuse("fuse_qkv_projections")
