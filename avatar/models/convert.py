"""From Stable Diffusion 1.5 (or inpainting) and an AnimateDiff motion adapter to our networks, and back.

Our layers keep diffusers' names, so almost every tensor is taken as it is. Whatever is not is said: a report names
each tensor of the source as taken, adapted or left out, and each of ours as taken, adapted or new. Anything unexpected
(a foreign, missing or misshapen tensor, a pickle) is a ValueError: weights that load "mostly" make videos that are
mostly wrong, and nobody sees why.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.models.loading import name_list
from avatar.models.reference import ReferenceNet
from avatar.models.unet import AvatarUNet

Tensors = dict[str, Tensor]
WEIGHTS = "diffusion_pytorch_model"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")

# Settings of a source U-Net that would change the arithmetic of the layers, and the only values ours know.
SUPPORTED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
}


@dataclass
class Report:
    """What became of every tensor of one network."""

    taken: list[str] = field(default_factory=list)  # the same in source and ours
    adapted: dict[str, str] = field(default_factory=dict)  # name -> what was done
    new: list[str] = field(default_factory=list)  # ours alone, with starting values
    refused: dict[str, str] = field(default_factory=dict)  # of the source, not taken -> why

    def __str__(self) -> str:
        return (
            f"{len(self.taken)} tensors taken, {len(self.adapted)} adapted, {len(self.new)} new, "
            f"{len(self.refused)} refused"
        )


@dataclass
class Converted:
    unet: AvatarUNet
    reference_net: ReferenceNet
    unet_report: Report
    reference_report: Report


def read_weights(source: str | os.PathLike[str], subfolder: str = "") -> tuple[dict[str, Any], Tensors]:
    """config.json and tensors of a folder or hub id in diffusers' format; `subfolder` is entered where it exists."""
    if Path(source).suffix in PICKLES:
        raise ValueError(
            f"{source} is a pickle, which can run any code on loading; expected a folder with config.json and "
            "safetensors. Convert it once with diffusers' from_single_file(...).save_pretrained(folder)."
        )
    folder = Path(source)
    if not folder.is_dir():
        files = ("config.json", *(f"{WEIGHTS}{kind}.safetensors*" for kind in ("", ".fp16", "-*-of-*")))
        wanted = [f"{place}{name}" for place in ("", f"{subfolder}/") for name in files]
        try:
            folder = Path(snapshot_download(str(source), allow_patterns=wanted))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise ValueError(
                f"{source} is neither a folder here nor a hub id that could be read; pass a folder with config.json "
                f"and safetensors. ({error})"
            ) from error
    if subfolder and (folder / subfolder / "config.json").is_file():
        folder = folder / subfolder
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json; expected a folder that diffusers' save_pretrained wrote.")
    index = folder / f"{WEIGHTS}.safetensors.index.json"
    whole = [folder / f"{WEIGHTS}{variant}.safetensors" for variant in ("", ".fp16")]
    found = [path for path in whole if path.is_file()][:1]
    if index.is_file():
        found = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
    if not found:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        raise ValueError(
            f"{folder} has no {WEIGHTS}.safetensors"
            + (f", only pickles ({name_list(pickles)}), which are refused" if pickles else "")
            + "; save it again with save_pretrained(folder, safe_serialization=True)."
        )
    tensors: Tensors = {}
    for path in found:
        tensors |= load_file(path)
    return json.loads((folder / "config.json").read_text(encoding="utf-8")), tensors


def from_stable_diffusion(
    stable_diffusion: str | os.PathLike[str],  # folder or hub id of the pipeline, or of its U-Net
    motion_adapter: str | os.PathLike[str] | None = None,  # folder or hub id; None: new motion modules
    *,
    prior: bool = True,  # whether the U-Net takes mask and prior latents too: C + 1 + C channels
    text: bool = False,  # whether the U-Net keeps cross-attention to text or image tokens beside the audio's
    **fields: Any,  # AvatarUNet's own: audio_dim, identity_dim, regions, region_levels, ...
) -> Converted:
    """Networks with Stable Diffusion's and AnimateDiff's weights; what is ours has its starting values.

    With `text` and every new stream off, the U-Net computes what diffusers' `UNetMotionModel.from_unet2d` does.
    """
    # 1. Read
    config, tensors = read_weights(stable_diffusion, "unet")
    wrong = {name: config[name] for name, value in SUPPORTED.items() if config.get(name, value) != value}
    if wrong:
        raise ValueError(
            f"{stable_diffusion} has settings that our layers do not: {wrong}; expected a Stable Diffusion 1.x U-Net."
        )
    channels = config["out_channels"]
    shared = {
        name: config[name]
        for name in ("sample_size", "block_out_channels", "layers_per_block", "norm_num_groups")
        if name in config
    } | {"use_linear_projection": config.get("use_linear_projection", False)}
    heads = config.get("num_attention_heads") or config["attention_head_dim"]

    # 2. Motion
    motion: dict[str, Any] = {}
    if motion_adapter is not None:
        adapter, motion_tensors = read_weights(motion_adapter, "motion_adapter")
        wrong = {
            name: (adapter[name], expected)
            for name, expected in {
                "block_out_channels": config["block_out_channels"],
                "motion_layers_per_block": config["layers_per_block"],
                "motion_norm_num_groups": config["norm_num_groups"],
                "motion_transformer_layers_per_block": 1,
                "conv_in_channels": None,
            }.items()
            if adapter.get(name, expected) != expected
        }
        if wrong:
            raise ValueError(
                f"the motion adapter {motion_adapter} does not belong to {stable_diffusion}; field: (got, expected) = "
                f"{wrong}. Pass an adapter made for this U-Net."
            )
        motion = {
            "motion_num_attention_heads": adapter["motion_num_attention_heads"],
            "motion_max_seq_length": adapter["motion_max_seq_length"],
            "use_motion_mid_block": adapter.get("use_motion_mid_block", True),
        }
        tensors |= motion_tensors

    # 3. Build and fill
    unet = AvatarUNet(
        **shared,
        **motion,
        in_channels=2 * channels + 1 if prior else channels,
        out_channels=channels,
        down_block_types=tuple(name.replace("2D", "Motion") for name in config["down_block_types"]),
        up_block_types=tuple(name.replace("2D", "Motion") for name in config["up_block_types"]),
        num_attention_heads=heads,
        cross_attention_dim=config["cross_attention_dim"] if text else None,
        **fields,
    )
    reference_net = ReferenceNet.matching(unet)
    ours = ("region_layers.", "clarity_embedding.", ".processor.")
    text_parts = ("attn2.to_k", "attn2.to_v", "attn2.to_out")
    unet_report = _fill(
        unet,
        tensors,
        new=ours + (() if text else text_parts) + (("motion_modules.",) if motion_adapter is None else ()),
        left_out={} if text else dict.fromkeys(text_parts, "text cross-attention; these layers hear the audio"),
    )
    spatial = {name: tensor for name, tensor in tensors.items() if "motion_modules." not in name}
    no_text = dict.fromkeys((".attn2.", ".norm2."), "text cross-attention; the reference net has none")
    # norm2 of a ResNet stays; of a transformer block it belongs to attn2
    left_out = {
        name: reason
        for part, reason in no_text.items()
        for name in spatial
        if part in name and "transformer_blocks" in name
    }
    return Converted(unet, reference_net, unet_report, _fill(reference_net, spatial, (), left_out))


def _fill(model: nn.Module, source: Tensors, new: tuple[str, ...], left_out: dict[str, str]) -> Report:
    """Loads a source's tensors into a model. `new`: parts of names that the model may have alone; `left_out`: part of
    a source name -> why it is not wanted."""
    report = Report()
    state = model.state_dict()
    for name, tensor in source.items():
        reason = next((reason for part, reason in left_out.items() if part in name), None)
        if reason is not None:
            report.refused[name] = reason
        elif name not in state:
            report.refused[name] = "foreign: the model has no such tensor"
        elif name == "conv_in.weight" and tensor.shape != state[name].shape:
            # Noisy latents come first in all layouts. Channels that the source lacks start at zero: no effect yet.
            kept = min(tensor.shape[1], state[name].shape[1])
            widened = torch.zeros_like(state[name])
            widened[:, :kept] = tensor[:, :kept]
            state[name] = widened
            report.adapted[name] = f"{tensor.shape[1]} input channels to {widened.shape[1]}: the first {kept} taken"
        elif tensor.shape != state[name].shape:
            report.refused[name] = f"foreign: its shape is {tuple(tensor.shape)}, ours {tuple(state[name].shape)}"
        else:
            state[name] = tensor.to(state[name].dtype)
            report.taken.append(name)
    report.new = [name for name in state if name not in report.taken and name not in report.adapted]
    foreign = [f"{name} ({why})" for name, why in report.refused.items() if why.startswith("foreign")]
    # Positions are sinusoids that the constructor computes; some adapters leave them out.
    missing = [name for name in report.new if not name.endswith("pos_embed.pe") and not any(p in name for p in new)]
    if foreign or missing:
        raise ValueError(
            f"the weights do not fit {type(model).__name__}: {len(missing)} missing ({name_list(missing)}), "
            f"{len(foreign)} foreign ({name_list(foreign)}). Expected the tensors of a Stable Diffusion 1.x U-Net "
            "and, if given, of an AnimateDiff adapter for it; check that both folders are complete and fit together."
        )
    model.load_state_dict(state)
    return report


def export_stable_diffusion(unet: AvatarUNet, folder: str | os.PathLike[str]) -> list[str]:
    """Writes `folder`/unet (diffusers' UNet2DConditionModel) and `folder`/motion_adapter; returns the tensors that
    have no place in either (regions, clarity, audio beside text).

    Without text, the exported U-Net's cross-attention takes our audio tokens. With a prior it has inpainting's layout.
    """
    config = unet.config
    stock = UNet2DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        down_block_types=tuple(name.replace("Motion", "2D") for name in config.down_block_types),
        up_block_types=tuple(name.replace("Motion", "2D") for name in config.up_block_types),
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        cross_attention_dim=config.cross_attention_dim or config.audio_dim,
        attention_head_dim=config.num_attention_heads,
        use_linear_projection=config.use_linear_projection,
    )
    state = unet.state_dict()
    stock.load_state_dict({name: state[name] for name in stock.state_dict()})
    stock.to(unet.dtype).save_pretrained(Path(folder) / "unet")
    unet.save_motion_modules(Path(folder) / "motion_adapter")
    return [name for name in state if name not in stock.state_dict() and "motion_modules." not in name]
