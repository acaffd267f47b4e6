"""Weights of feature extractors that users bring: read without running anything, matched to a network by name.

Files are .safetensors, or torch files read by torch's weights-only reader: tensors, plain values, and the options of a
command line (argparse.Namespace), which the Trimodal family saves beside its tensors and which can do nothing. Other
Python objects are refused, because unpickling them can run any code. Convert such a file once, where its origin is
trusted, to .safetensors with the tensors alone.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# Where the checkpoints of the authors keep their tensors.
_PLACES = ("model_state", "gen_dict", "motion_ae", "state_dict", "generator", "g", "model")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a file by name, those of the outermost known section; ValueError says what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; extractor weights are brought by the user, see docs/METRICS.md")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} was refused: it is no .safetensors and no torch file of tensors alone ({reason[:160]}). If it "
            "holds settings as Python objects and you trust it, save its tensors as .safetensors"
        ) from None
    while isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        inner = next((content[place] for place in _PLACES if isinstance(content.get(place), Mapping)), None)
        if inner is None:
            break
        content = inner
    raise ValueError(f"{path} holds no tensors under a known name ({', '.join(_PLACES)})")


def load_encoder(network: nn.Module, path: str | Path, prefixes: tuple[str, ...]) -> str:
    """Fill `network` from a file and return the weights' name: the file's and eight digits of what they hold.

    The tensors are looked for below each prefix ("pose_encoder."); decoders beside them are ignored. A missing,
    unexpected or misshapen tensor is an error: a half loaded extractor would give numbers that look right.
    """
    tensors = {name.replace("module.", "", 1): value for name, value in read_tensors(path).items()}
    found = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in tensors)), None)
    if found is None:
        raise ValueError(f"{path} has no tensors named {' or '.join(prefix + '*' for prefix in prefixes)}")
    own = {name[len(found) :]: value for name, value in tensors.items() if name.startswith(found)}
    wanted = network.state_dict()
    # Files of old torch versions lack the counters of batch normalisation, which nothing reads.
    missing = [name for name in wanted if name not in own and not name.endswith("num_batches_tracked")]
    extra = [name for name in own if name not in wanted]
    shapes = [
        f"{name} {tuple(own[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in own and own[name].shape != wanted[name].shape
    ]
    for problem, names in (("lacks", missing), ("has unknown", extra), ("has other shapes:", shapes)):
        if names:
            raise ValueError(f"{path} {problem} {', '.join(names[:5])} ({len(names)}): it is of another network")
    network.load_state_dict({**wanted, **own})
    network.eval().requires_grad_(False)
    return f"{Path(path).stem} {fingerprint(network)}"


def fingerprint(network: nn.Module) -> str:
    """Eight hexadecimal digits that tell weights apart, the same in any file format."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
