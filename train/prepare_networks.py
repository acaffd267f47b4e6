"""The networks whose answers are kept with clips (speech states, latents): loaded once a process, named by weights."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml

from avatar.build import build_autoencoder
from avatar.latents import AUTOENCODERS, Autoencoder, load_autoencoder
from avatar.models.audio_encoder import AudioEncoder
from avatar.shipped import located

# What the states depend on; the projection behind them is trained and does not count.
STATE_FIELDS = (
    "front_end", "speech_config", "layers", "fps", "window", "mel_bands", "normalize", "block_s", "context_s",
)  # fmt: skip


def _section(path: str, name: str) -> dict[str, Any]:
    """A section of a model description."""
    if not Path(path).is_file():
        raise ValueError(f"no such model description: {path}; check the path")
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or name not in content:
        raise ValueError(f"{path} has no section {name!r}; give a description such as configs/model_default.yaml")
    return dict(content[name])


@lru_cache(maxsize=1)
def load_audio(path: str, device: str = "cpu") -> AudioEncoder:
    """The audio encoder of a description, a pipeline folder, its own folder, or around a speech network."""
    if Path(path).suffix in (".yaml", ".yml"):
        section = _section(path, "audio_encoder")
        source = section.pop("from", None)
        encoder = (
            AudioEncoder(**section) if source is None else AudioEncoder.from_speech_model(located(source), **section)
        )
    else:
        folder = Path(path) / "audio_encoder" if (Path(path) / "model_index.json").is_file() else Path(path)
        own = folder / "config.json"
        if own.is_file() and json.loads(own.read_text()).get("_class_name") == "AudioEncoder":
            encoder = AudioEncoder.from_pretrained(folder)
        else:
            encoder = AudioEncoder.from_speech_model(path)
    return encoder.eval().requires_grad_(False).to(device)


@lru_cache(maxsize=1)
def load_vae(path: str, device: str = "cpu") -> Autoencoder:
    """The autoencoder of a description (with new weights: seed 0), a pipeline folder or its own folder."""
    if Path(path).suffix in (".yaml", ".yml"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            vae = build_autoencoder(_section(path, "vae"))
    else:
        folder = Path(path)
        if (folder / "model_index.json").is_file():
            folder = folder / "vae"
        try:
            name = json.loads((folder / "config.json").read_text())["_class_name"]
        except (OSError, ValueError, KeyError):
            known = " or ".join(AUTOENCODERS)
            raise ValueError(f"{path} holds no autoencoder; expected a pipeline folder, or one of {known}") from None
        vae = load_autoencoder(name, folder)
    return vae.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def audio_identity(path: str) -> str:
    """Name and digest of what speech states depend on."""
    encoder = load_audio(path)
    config = {name: encoder.config[name] for name in STATE_FIELDS}
    return f"{config['front_end']}:{_digest(config, encoder.speech)}"


def vae_identity(path: str) -> str:
    """Class and digest of an autoencoder."""
    vae = load_vae(path)
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    return f"{type(vae).__name__}:{_digest(config, vae)}"


def _digest(config: Any, module: torch.nn.Module | None) -> str:
    digest = hashlib.blake2b(json.dumps(config, sort_keys=True, default=str).encode(), digest_size=8)
    for name, tensor in sorted(module.state_dict().items()) if module is not None else ():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
