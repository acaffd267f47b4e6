"""How well an autoencoder gives held-out pictures back, and how fast: a table, and pictures to look at.

    python train/autoencoder_report.py RUN [--model FOLDER] [--precision bf16]

RUN is a folder of train/autoencoder.py; its config.yaml says what was held out. Photos are measured at about 512²,
frames of videos as they are. RUN/report/ gets report.json and, a picture each, original, result and ten times the
difference side by side. FOLDER measures other weights on the same pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avatar.latents import Autoencoder
    from train.pictures import Picture

AMPLIFIED = 10  # times, of differences in the pictures: an error of 1 % becomes visible
TIMED_FRAMES, TIMED_SIDE = 8, 512


def measure(vae: Autoencoder, picture: Picture) -> tuple[dict[str, float], Picture]:
    """PSNR (dB), MS-SSIM and the share of the sharpness that is kept; and the picture that came back."""
    import cv2
    import numpy as np
    import torch

    from avatar import latents
    from avatar.metrics.images import ms_ssim, psnr

    tensor = torch.tensor(picture).permute(2, 0, 1)[None] / 255
    made = latents.decode(vae, latents.encode(vae, tensor))[0].permute(1, 2, 0)
    back = (made * 255 + 0.5).clamp(0, 255).byte().numpy()

    def sharpness(image: Picture) -> float:
        return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())

    first, second = np.asarray(picture)[None], back[None]
    return {
        "psnr": float(psnr(first, second)[0]),
        "ms_ssim": float(ms_ssim(first, second)[0]),
        "sharpness": sharpness(back) / sharpness(picture),
    }, back


def frames_a_second(vae: Autoencoder) -> float:
    """Pictures of 512² encoded and decoded in a second, with all threads of torch, after a first four to warm up."""
    import torch

    from avatar import latents

    images = torch.rand(TIMED_FRAMES, 3, TIMED_SIDE, TIMED_SIDE)
    latents.decode(vae, latents.encode(vae, images[:4]))
    began = time.monotonic()
    latents.decode(vae, latents.encode(vae, images))
    return TIMED_FRAMES / (time.monotonic() - began)


def report(run: Path, model: Path, precision: str) -> dict[str, dict[str, float]]:
    """Measures of every held-out picture by its name, and their means by kind; writes RUN/report."""
    import numpy as np
    import torch
    from PIL import Image

    from avatar import latents
    from avatar.sizes import crop_to_aspect, resize, working_size
    from train.autoencoder import AutoencoderConfig
    from train.config import load_config
    from train.pictures import VIDEOS, find_pictures, read_pictures

    config = load_config(AutoencoderConfig, run / "config.yaml")
    vae = latents.load_autoencoder("AutoencoderTiny", model).eval()
    vae.to(torch.bfloat16 if precision == "bf16" else torch.float32).to(memory_format=torch.channels_last)
    factor = latents.spatial_factor(vae)
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    rows: dict[str, dict[str, float]] = {}
    kinds: dict[str, list[dict[str, float]]] = {"photos": [], "frames": []}
    for path in find_pictures(config.data.folders, config.data.held_out).val:
        video = path.suffix.lower() in VIDEOS
        for number, picture in enumerate(read_pictures([path], config.data.fps, config.data.longest)):
            if video:
                height, width = (side // factor * factor for side in picture.shape[:2])
                picture = np.ascontiguousarray(picture[:height, :width])
            else:
                size = working_size(*picture.shape[:2])
                picture = resize(crop_to_aspect(picture, size), size)
            name = f"{path.stem}-{number}" if video else path.stem
            rows[name], back = measure(vae, picture)
            kinds["frames" if video else "photos"].append(rows[name])
            error = np.clip(AMPLIFIED * np.abs(back.astype(int) - picture), 0, 255).astype(np.uint8)
            Image.fromarray(np.hstack([picture, back, error])).save(folder / f"{name}.png")
    for kind, of_kind in kinds.items():
        if of_kind:
            rows[f"mean of {kind}"] = {key: float(np.mean([row[key] for row in of_kind])) for key in of_kind[0]}
    rows["speed"] = {"frames_a_second": frames_a_second(vae), "threads": torch.get_num_threads()}
    (folder / "report.json").write_text(json.dumps(rows, indent=1))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", type=Path, help="RUN/best if left out")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args(argv)
    try:
        rows = report(args.run, args.model or args.run / "best", args.precision)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, values in rows.items():
        print(f"{name:32}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
