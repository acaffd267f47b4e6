"""A video pipeline from a description (configs/model_*.yaml) with new weights, or from a saved folder.

A description has one section for each part, the constructor arguments of its class. What two parts must agree on is
filled in from the U-Net: the reference net's layers, widths of pose features, audio and identity tokens. A section may
hold `from: folder or hub id` instead: that part is then loaded; `from: shipped:NAME` is avatar/weights/NAME, which
comes with the package. `class` names the diffusers class of the autoencoder and of the scheduler.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import diffusers
import torch
import yaml
from diffusers import AutoencoderKL, AutoencoderTiny

from avatar.latents import AUTOENCODERS, load_autoencoder
from avatar.models.audio_encoder import AudioEncoder
from avatar.models.identity import IdentityEncoder
from avatar.models.layer_chooser import LayerChooser
from avatar.models.pose_encoder import PoseEncoder
from avatar.models.reference import ReferenceNet
from avatar.models.unet import AvatarUNet
from avatar.pipeline import AvatarPipeline
from avatar.shipped import holds_layer_chooser, located

SECTIONS = (
    "unet", "reference_net", "pose_encoder", "audio_encoder", "identity_encoder", "vae", "scheduler", "pipeline",
)  # fmt: skip


def load_pipeline(path: str | Path, dtype: torch.dtype = torch.float32) -> AvatarPipeline:
    """The pipeline of a saved folder or hub id, or a new one with random weights from a .yaml description."""
    if Path(path).suffix not in (".yaml", ".yml"):
        pipeline = AvatarPipeline.from_pretrained(path, dtype=dtype)
    elif not Path(path).is_file():
        raise ValueError(f"no such model description: {path}; check the path")
    else:
        pipeline = build_pipeline(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        for module in pipeline.components.values():
            if isinstance(module, torch.nn.Module):
                torch.nn.Module.to(module, dtype)  # diffusers' own `to` warns about nothing here
    pipeline.vae.to(memory_format=torch.channels_last)  # twice as fast on a CPU, and no slower elsewhere
    return pipeline


def load_video_model(path: str | Path, dtype: torch.dtype = torch.float32) -> AvatarPipeline | LayerChooser:
    """What draws a video: a pipeline as `load_pipeline` gives it, or the layer chooser that a folder holds."""
    path = located(str(path))
    if not holds_layer_chooser(path):
        return load_pipeline(path, dtype)
    chooser: LayerChooser = LayerChooser.from_pretrained(path)  # small: in single precision everywhere
    return chooser.float().eval()


def fast_dtype(device: str | torch.device) -> torch.dtype:
    """What networks run in there: bfloat16, but float32 on processors that have no arithmetic for it.

    Such a processor (AVX2 alone, say) makes convolutions 8 times slower in bfloat16 than in float32.
    """
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch cannot tell
    return torch.bfloat16 if any(has for name, has in known.items() if "bf16" in name) else torch.float32


def build_pipeline(config: Mapping[str, Any]) -> AvatarPipeline:
    """A pipeline with new weights, drawn from torch's global generator: seed that for the same ones again."""
    _check_names(config, SECTIONS, "section")
    part = {name: dict(config.get(name) or {}) for name in SECTIONS}
    unet = _built(AvatarUNet, part["unet"])
    reference = _built(ReferenceNet, part["reference_net"]) if part["reference_net"] else ReferenceNet.matching(unet)
    audio = {"audio_dim": unet.config.audio_dim, **part["audio_encoder"]}
    if "from" in audio:
        audio_encoder = AudioEncoder.from_speech_model(located(audio.pop("from")), **audio)
    else:
        audio_encoder = _built(AudioEncoder, audio)
    identity_encoder = None
    if unet.config.regions:
        identity_encoder = _built(
            IdentityEncoder, {"identity_dim": unet.config.identity_dim} | part["identity_encoder"]
        )
    pipeline = AvatarPipeline(
        unet,
        reference,
        _built(PoseEncoder, {"out_channels": unet.config.block_out_channels[0]} | part["pose_encoder"]),
        audio_encoder,
        build_autoencoder(part["vae"]),
        _scheduler(part["scheduler"]),
        identity_encoder,
        **part["pipeline"],
    )
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval()
    return pipeline


def _built(cls: Any, arguments: dict[str, Any]) -> Any:
    """An instance of a model class, loaded where `from` says so; unknown names are refused."""
    if "from" in arguments:
        return cls.from_pretrained(located(arguments["from"]))
    _check_names(arguments, inspect.signature(cls.__init__).parameters, f"{cls.__name__} argument")
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in arguments.items()})


def build_autoencoder(section: Mapping[str, Any]) -> AutoencoderKL | AutoencoderTiny:
    """The autoencoder of a description's section `vae`."""
    arguments = dict(section)
    name = arguments.pop("class", "AutoencoderKL")
    if "from" in arguments:
        return load_autoencoder(name, located(arguments["from"]))
    if name not in AUTOENCODERS:
        raise ValueError(f"vae class must be one of {', '.join(AUTOENCODERS)}, got {name!r}")
    return _built(AUTOENCODERS[name], arguments)


def _scheduler(arguments: dict[str, Any]) -> Any:
    name = arguments.pop("class", "DDIMScheduler")
    cls = getattr(diffusers, name, None)
    if cls is None or not issubclass(cls, diffusers.SchedulerMixin):
        raise ValueError(f"scheduler class {name!r} is not a diffusers scheduler; DDIMScheduler is one")
    return _built(cls, arguments)


def _check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    known = [name for name in known if name != "self"]
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"unknown {what} {name!r}; {hint}")
