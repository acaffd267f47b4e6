"""Does a video model beat the prior it starts from, on people that it was not trained on?

    python benchmarks/default_video.py MODEL --repair REPAIR --clips CLIPS --out report/
    python benchmarks/default_video.py MODEL … --runs 1@0.2 2@0.5 1@1        # steps @ strength, each a row
    python benchmarks/default_video.py MODEL … --without reference regions audio motion  # the first run lacking each

REPAIR: what train/repair.py wrote; of its validation photos, some variants are made good by the pipeline. CLIPS: what
train/prepare.py or train/render.py wrote; of its validation clips, a stretch is made again from the first frame,
true keypoints and true sound. Everything goes through `AvatarPipeline` as in infer/run.py; a layer chooser through
`ChosenPrior`, which takes none of the options of runs. Columns:

    L1, 1-MS-SSIM    where the prior doubts itself (confidence < 0.5): elsewhere the truth is put in place of both
    mouth L1         of that, lower face only; NaN-free mean over frames that have any
    all L1           of whole frames
    sharp            variance of the Laplacian in the face's box over that of the photo
    HKC              mean confidence of hands in view, by the product's own detector, every third frame

OUT gets table.md, scores.json and sheets: prior | model | truth | confidence at full size.

Letters: F frames, H W picture size.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatar import conditions
from avatar.build import fast_dtype, load_video_model
from avatar.data.clips import FRAME_SAMPLES, Clip
from avatar.data.shards import ShardFolder
from avatar.layer_choice import ChosenPrior
from avatar.metrics.images import ms_ssim
from avatar.metrics.keypoint_measures import hand_confidence
from avatar.models.layer_chooser import LayerChooser
from avatar.pipeline import AvatarPipeline
from avatar.warp.prior import GeometricPrior, Prior
from pose.detect import PersonDetector
from pose.keypoints import Keypoints
from train.avatar_prior import photo_prior, spread_variants, usable_references

Video = NDArray[np.uint8]
UNSURE = 0.5  # issue's "low-confidence area"
DETECT_EVERY = 3
SHEET_FRAMES = 3  # of a clip
PARTS = ("reference", "regions", "audio", "motion")


@dataclass
class Sample:
    """One thing to make: a photo, what drives it, and how it should look."""

    name: str
    image: Video  # (H, W, 3)
    reference: Keypoints  # of the photo
    keypoints: Keypoints  # F
    photo: Callable[[], GeometricPrior]
    prior: Prior  # the photo at the keypoints
    truth: Video  # (F, H, W, 3)
    sound: NDArray[np.float32] | None


def repair_samples(folder: Path, variants: int) -> Iterator[Sample]:
    """Some variants of every validation photo; F = 1."""
    for clip in _held_out(folder):
        frames, points = clip.frames(), clip.keypoints
        for k in spread_variants(clip, variants):
            one, photo = slice(0, 1), partial(photo_prior, clip, k)
            yield Sample(
                f"{clip.key}-{k}", frames[k].copy(), points[slice(k, k + 1)], points[one], photo,
                photo().render(points[one]), frames[one], None,
            )  # fmt: skip


def clip_samples(folder: Path, frames: int) -> Iterator[Sample]:
    """A stretch from the middle of one validation clip of each recording."""
    seen: set[str] = set()
    for clip in _held_out(folder):
        if clip.meta["source"] in seen or clip.matte_video is None:
            continue
        seen.add(clip.meta["source"])
        count = min(frames, len(clip))
        start = (len(clip) - count) // 2
        window, first = slice(start, start + count), int(usable_references(clip)[0])
        sound = None
        if clip.sound is not None:
            sound = clip.waveform()[start * FRAME_SAMPLES : (start + count) * FRAME_SAMPLES]
        yield Sample(
            clip.key,
            clip.frames(first, first + 1)[0].copy(),
            clip.keypoints[slice(first, first + 1)],
            clip.keypoints[window],
            partial(photo_prior, clip, first),
            photo_prior(clip, first).render(clip.keypoints[window]),
            clip.frames(start, start + count),
            sound,
        )


def _held_out(folder: Path) -> Iterator[Clip]:
    shards = ShardFolder(folder)
    for index in shards.select("val"):
        yield shards.clip(index)


@contextmanager
def lacking(pipeline: AvatarPipeline, part: str | None) -> Iterator[None]:
    """The pipeline without one of PARTS, as training drops them; "audio" is left out by `made`."""
    config, encoder = dict(pipeline.config), pipeline.identity_encoder
    if part == "reference":
        pipeline.register_to_config(reference_guidance=0.0, audio_guidance=0.0)
    elif part == "motion":
        pipeline.register_to_config(motion_frames=0)
    elif part == "regions":
        pipeline.identity_encoder = None
    yield
    names = ("reference_guidance", "audio_guidance", "motion_frames")
    pipeline.register_to_config(**{name: config[name] for name in names})
    pipeline.identity_encoder = encoder


def made(
    pipeline: AvatarPipeline, sample: Sample, steps: int, strength: float, stride: int | None, part: str | None = None
) -> Video:
    """The pipeline's frames (F, H, W, 3), without `part` of it."""
    with lacking(pipeline, part):
        frames = pipeline(
            sample.image, sample.reference, audio=None if part == "audio" else sample.sound,
            keypoints=sample.keypoints, prior=sample.prior, steps=steps, strength=strength,
            frame_stride=1 if len(sample.truth) == 1 else stride,
            generator=torch.Generator().manual_seed(0),
        ).frames  # fmt: skip
    return _pictures(frames)


def ways(model: AvatarPipeline | LayerChooser, args: argparse.Namespace) -> dict[str, Callable[[Sample], Video]]:
    """What is compared, by its title: the pipeline's runs, or the choice of layers."""
    if not isinstance(model, AvatarPipeline):
        return {"chosen": lambda sample: _pictures(ChosenPrior(sample.photo(), model).render(sample.keypoints).frames)}
    model.set_progress_bar_config(disable=True)
    found = {}
    for run, part in [(run, None) for run in args.runs] + [(args.runs[0], part) for part in args.without]:
        steps, strength = run.split("@")
        title = run if part is None else f"{run} without {part}"
        found[title] = partial(made, model, steps=int(steps), strength=float(strength), stride=args.stride, part=part)
    return found


def _pictures(frames: torch.Tensor) -> Video:
    return (frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def scores(video: Video, sample: Sample, detector: PersonDetector) -> dict[str, float]:
    """What the module says of one video."""
    unsure = sample.prior.confidence[:, 0].cpu().numpy() < UNSURE  # (F, H, W)
    mouth = conditions.mouth_mask(sample.keypoints, sample.keypoints.size) > 0
    error = np.abs(video.astype(np.int16) - sample.truth).mean(-1)
    mixed = np.where(unsure[..., None], video, sample.truth)
    found = {
        "all L1": float(error.mean()),
        "L1": float(error[unsure].mean()),
        "1-MS-SSIM": float(1 - ms_ssim(mixed[::2], sample.truth[::2]).mean()),
        "sharp": _sharpness(video, sample.keypoints) / _sharpness(sample.image[None], sample.reference),
    }
    if (mouth & unsure).any():
        found["mouth L1"] = float(error[mouth & unsure].mean())
    seen = [detector.image(frame, matte=False).keypoints for frame in video[::DETECT_EVERY]]
    with suppress(ValueError):  # no hand in view
        found["HKC"] = hand_confidence(Keypoints.concatenated(seen), "in_view")
    return found


def _sharpness(video: Video, keypoints: Keypoints) -> float:
    """Variance of the Laplacian in the box of the face, mean over frames."""
    values = []
    for frame, box in zip(video, conditions.region_boxes(keypoints, "face")[:, 0], strict=True):
        x0, y0, x1, y1 = np.nan_to_num(box).round().astype(int).clip(0)
        if x1 > x0 and y1 > y0:
            grey = cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY)
            values.append(float(cv2.Laplacian(grey, cv2.CV_64F).var()))
    return float(np.mean(values)) if values else float("nan")


def sheet(video: Video, sample: Sample) -> Video:
    """Rows prior | model | truth | confidence of some frames."""
    chosen = np.unique(np.linspace(0, len(video) - 1, SHEET_FRAMES).round().astype(int))
    prior, trust = _pictures(sample.prior.frames), sample.prior.confidence[:, 0].cpu().numpy()
    grey = (trust * 255).round().astype(np.uint8)[..., None].repeat(3, -1)
    return np.vstack([np.hstack([prior[k], video[k], sample.truth[k], grey[k]]) for k in chosen])


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Means of each run; of all but the first, change against it."""
    names = ("L1", "1-MS-SSIM", "mouth L1", "all L1", "sharp", "HKC")
    lines = ["| run | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    base: dict[str, float] = {}
    for title, found in rows.items():
        means = {n: float(np.mean([s[n] for s in found if n in s])) for n in names if any(n in s for s in found)}
        base = base or means
        cells = []
        for name in names:
            if name not in means:
                cells.append("–")
                continue
            change = "" if means is base or name in ("sharp", "HKC") else f" ({means[name] / base[name] - 1:+.0%})"
            cells.append(f"{means[name]:.3f}" + change)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def evaluate(args: argparse.Namespace) -> str:
    kinds: dict[str, list[Sample]] = {}
    if args.repair:
        kinds["repair"] = list(repair_samples(args.repair, args.variants))
    for folder in args.clips:
        kinds[f"reenactment {folder.name}"] = list(clip_samples(folder, args.frames))
    model = load_video_model(args.model, getattr(torch, args.dtype) if args.dtype else fast_dtype("cpu"))
    runs = ways(model, args)
    args.out.mkdir(parents=True, exist_ok=True)
    text, kept, began = [], {}, time.monotonic()
    with PersonDetector() as detector:
        for kind, samples in kinds.items():
            rows = {"prior": [scores(_pictures(s.prior.frames), s, detector) for s in samples]}
            if args.truth:
                rows["truth"] = [scores(s.truth, s, detector) for s in samples]
            for number, (title, make) in enumerate(runs.items()):
                rows[title] = []
                for sample in samples:
                    video = make(sample)
                    rows[title].append(scores(video, sample, detector))
                    if number == 0 and args.sheets:
                        path = args.out / f"{kind.replace(' ', '_')}_{sample.name}.jpg"
                        picture = sheet(video, sample)[..., ::-1]
                        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 93])
            kept[kind] = {title: dict(zip([s.name for s in samples], v, strict=True)) for title, v in rows.items()}
            text.append(f"{kind}, {len(samples)} samples\n\n{table(rows)}\n")
            print(text[-1], flush=True)
    (args.out / "table.md").write_text("\n".join(text), encoding="utf-8")
    (args.out / "scores.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return f"{args.out}: {time.monotonic() - began:.0f} s"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Any = parser.add_argument
    add("model", help="folder of a pipeline or layer chooser, or a description (random weights)")
    add("--repair", type=Path)
    add("--clips", type=Path, nargs="*", default=[])
    add("--out", type=Path, default=Path("report"))
    add("--runs", nargs="+", default=["1@0.2"], help="STEPS@STRENGTH")
    add("--variants", type=int, default=2, help="of each photo")
    add("--frames", type=int, default=24, help="of each clip")
    add("--stride", type=int, help="frame stride; None: the model's")
    add("--without", nargs="+", default=[], choices=PARTS, help="rows of the first run lacking each of these")
    add("--dtype", help="float32, bfloat16; None: what is fast here")
    add("--sheets", action=argparse.BooleanOptionalAction, default=True)
    add("--truth", action="store_true", help="a row for the truth itself")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    try:
        print(evaluate(parse(argv)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
