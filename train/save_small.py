"""Save a trained model as it ships: its networks in half precision.

    python train/save_small.py out/gesture_default/best pose/weights/default
    python train/save_small.py out/layer_choice/best SOMEWHERE
    python train/save_small.py out/avatar_stage2_default/best SOMEWHERE_ELSE

Loading makes single precision of it again; the gestures' representation keeps it, its numbers are centimetres.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers.utils import logging

from avatar.build import load_pipeline
from avatar.models.layer_chooser import LayerChooser
from avatar.pipeline import AvatarPipeline
from avatar.shipped import holds_layer_chooser
from pose.pipeline import GesturePipeline


def save_small(source: str, folder: Path) -> str:
    """Write what `source` holds into `folder`; returns a line that says how large it is."""
    logging.disable_progress_bar()
    pipeline, networks = _loaded(source)
    for network in networks:
        torch.nn.Module.to(network, torch.float16)  # diffusers' own warns of layers that this network does not have
    pipeline.save_pretrained(folder)
    for path in folder.rglob("*.json"):  # where it was trained is nobody's business
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: {size / 1e6:.1f} MB"


def _loaded(source: str) -> tuple[GesturePipeline | AvatarPipeline | LayerChooser, list[torch.nn.Module]]:
    """What is saved, and those of its networks that bear half precision."""
    if holds_layer_chooser(source):
        chooser: LayerChooser = LayerChooser.from_pretrained(source)
        return chooser, [chooser]
    index = Path(source) / "model_index.json"
    kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name") if index.is_file() else None
    if kind == AvatarPipeline.__name__:
        video = load_pipeline(source)
        return video, [part for part in video.components.values() if isinstance(part, torch.nn.Module)]
    gestures = GesturePipeline.from_pretrained(source)
    return gestures, [gestures.model]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint of train/gesture.py, layer_choice.py or avatar.py")
    parser.add_argument("folder", type=Path, help="where it is written")
    arguments = parser.parse_args(argv)
    try:
        print(save_small(arguments.model, arguments.folder))
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
