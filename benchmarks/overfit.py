"""Can the networks learn at all? Both training stages on one clip of five seconds, then the clip made from its photo.

    python benchmarks/overfit.py DATA OUT --other another.wav
    python benchmarks/overfit.py DATA OUT --other another.wav --minutes 5      stops then; the same again goes on

DATA is a folder of train/prepare.py with latents and audio states, of which the longest clip with sound is taken.
OUT gets clip/ (that clip alone), stage1/, stage2/, report.md, sheet.png (whole frames) and mouths.png (rows: MOUTHS).
Measured, on the training clip itself:

- PSNR where the prior doubts itself (confidence below one half), of the prior and of the model; the autoencoder's own
  is the ceiling.
- The prior has the photo's mouth at rest, so that sound alone says how it opens: how far other sound changes the lips,
  beside what it changes elsewhere, and whether they are nearer to the recording's with their own sound. Other sound is
  another recording, the clip's own half its length late, and none.

Letters: F frames, H W image size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatar import latents
from avatar.data.clips import FPS, FRAME_SAMPLES, Clip
from avatar.data.shards import ShardFolder, ShardWriter
from avatar.pipeline import AvatarPipeline
from pose.keypoints import FACE, LIPS_OUTER_LOWER, LIPS_OUTER_UPPER
from pose.speech import open_speech
from train.avatar_prior import driving, photo_prior, usable_references

ROOT = Path(__file__).resolve().parents[1]
Image = NDArray[np.uint8]
DOUBTFUL = 0.5  # confidence below which the prior's pixels count as doubtful
SHOWN = 6  # frames on the sheet
MOUTHS = ("recording", "prior, mouth at rest", "own sound", "another recording", "own sound, half the clip late")
MOUTH_SHOWN, MOUTH_SCALE = 14, 3  # frames on the mouths' sheet, and their enlargement
# Stage 2 is for the mouth alone, and sound is to be the easiest way to it: always heard, while the frames before,
# which show mouths too, are mostly left out. Parts of 128 pixels lie most often where the mouth is.
MOUTH_STAGE = (
    "conditions.hide_mouth=1", "conditions.drop_audio=0", "conditions.drop_both=0", "conditions.drop_motion=0.8",
    "losses.mouth=8", "crop=16", "frames=6",
)  # fmt: skip
LIPS = [FACE.start + i for i in sorted({*LIPS_OUTER_UPPER, *LIPS_OUTER_LOWER})]


def choose_clip(data: Path, folder: Path, key: str | None) -> Clip:
    """The clip to learn, alone in `folder`."""
    if not (folder / "manifest.parquet").exists():
        source = ShardFolder(data)
        numbers = [n for n in source.select(sound=True) if key in (None, source.rows[n].key)]
        if not numbers:
            raise ValueError(f"{data} holds no clip with sound{f' called {key}' * bool(key)}")
        clip = source.clip(max(numbers, key=lambda n: source.rows[n].frames))
        if clip.latents is None or clip.audio_states is None:
            raise ValueError(f"clip {clip.key} has no latents or audio states; prepare with vae=… and audio=…")
        with ShardWriter(folder) as writer:
            writer.write(replace(clip, meta={**clip.meta, "split": "train"}))
    return ShardFolder(folder).clip(0)


def train_stage(stage: int, out: Path, args: argparse.Namespace, until: float) -> bool:
    """Train in a process of its own, killed at the time `until`; whether it is finished."""
    steps = (args.steps1, args.steps2)[stage - 1]
    if (out / f"stage{stage}" / "checkpoints" / f"step_{steps:08d}").exists():
        return True
    start = [f"model={args.model}", f"vae={args.vae}"] if stage == 1 else [f"model={out / 'stage1' / 'last'}"]
    command = [
        sys.executable, ROOT / "train" / "avatar.py", ROOT / "configs" / f"avatar_stage{stage}.yaml", "preset=default",
        f"data.folders=[{out / 'clip'}]", "data.validation=train", *start, f"loop.output={out / f'stage{stage}'}",
        f"loop.steps={steps}", f"loop.batch_size={(args.batch1, args.batch2)[stage - 1]}", "loop.optimizer=adamw",
        "loop.learning_rate=1e-3",
        "loop.warmup=20", "loop.checkpoint_every=100", "loop.validation_batches=1", "loop.videos=0", "loop.ema=0.97",
        "loop.keep_last=1", "data.prior_photos=1", *(MOUTH_STAGE if stage == 2 else ("crop=24",)), *args.set,
    ]  # fmt: skip
    try:
        subprocess.run(list(map(str, command)), check=True, timeout=max(until - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def pixels(frames: torch.Tensor) -> Image:
    """(F, 3, H, W) in [0, 1] as (F, H, W, 3) uint8."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def psnr_inside(first: Image, second: Image, inside: NDArray[np.bool_]) -> float:
    """PSNR, dB, of all pixels of a video inside a mask (F, H, W) that changes with the frame, taken together."""
    error = (first.astype(np.float64) - second)[inside]
    return float(10 * np.log10(255**2 / np.square(error).mean()))


def lips_mask(clip: Clip) -> NDArray[np.bool_]:
    """The outer lips and a little more, (F, H, W)."""
    masks = np.zeros((len(clip), *clip.size), np.uint8)
    for mask, points in zip(masks, clip.points[:, LIPS], strict=True):
        hull = cv2.convexHull(points.round().astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 1)
    grown = np.ones((5, 5), np.uint8)
    return np.stack([cv2.dilate(mask, grown) for mask in masks]).astype(bool)


def mouths(clip: Clip, frames: NDArray[np.integer], video: Image) -> Image:
    """The lips of some frames and what is about them, enlarged, side by side."""
    points = clip.points[:, LIPS]
    half = int(0.8 * np.ptp(points[..., 0], axis=1).max())
    pictures = []
    for frame in frames:
        corner = points[frame].mean(0) - half + 0.5
        whole = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]], np.float32) * MOUTH_SCALE
        size = (2 * half * MOUTH_SCALE,) * 2
        pictures.append(cv2.warpAffine(video[frame], whole, size, flags=cv2.INTER_CUBIC))
    return np.concatenate(pictures, axis=1)


def report(clip: Clip, pipeline: AvatarPipeline, other: NDArray[np.float32], out: Path) -> list[str]:
    """Lines of the report; writes the sheets."""
    reference = int(usable_references(clip)[0])
    keypoints, one = clip.keypoints, slice(reference, reference + 1)
    image, truth = clip.frames(reference, reference + 1)[0].copy(), clip.frames()
    photo = photo_prior(clip, reference)
    prior, still = (photo.render(driving(clip, reference, at_rest)) for at_rest in (False, True))
    own, lips = clip.waveform()[: len(clip) * FRAME_SAMPLES], lips_mask(clip)
    doubtful = (prior.confidence[:, 0] < DOUBTFUL).numpy()

    def make(sound: NDArray[np.float32]) -> Image:
        made = pipeline(
            image, keypoints[one], audio=sound, keypoints=keypoints, prior=still, mouth="sound",
            frame_stride=1, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return pixels(made.frames)

    # 1. Reconstruction
    known = torch.from_numpy(np.asarray(clip.latents, np.float32))
    sounds = {
        "own sound": own,
        "another recording": other,
        "own sound, half the clip late": np.roll(own, len(own) // 2),
        "silence": np.zeros_like(own),
    }
    said = {name: make(sound) for name, sound in sounds.items()}
    videos = {"prior alone": pixels(prior.frames), "prior, mouth at rest": pixels(still.frames)}
    videos["model"] = said["own sound"]
    videos["autoencoder of the recording"] = pixels(latents.decode(pipeline.vae, known))
    lines = [
        f"Clip {clip.key}, {len(clip)} frames of {clip.size[0]} × {clip.size[1]}, photo: its frame {reference}. "
        f"The prior doubts {doubtful.mean():.1%} of the pixels.",
        "",
        "| video | PSNR where doubtful, dB | of the lips | everywhere |",
        "|---|---|---|---|",
    ]
    for name, video in videos.items():
        places = [psnr_inside(video, truth, area) for area in (doubtful, lips, np.ones_like(lips))]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in places) + " |")

    # 2. What sound does
    lines += [
        "",
        "| sound | changes the lips | elsewhere | ratio | PSNR of the lips |",
        "|---" * 5 + "|",
    ]
    for name, video in said.items():
        change = np.abs(said["own sound"].astype(np.float64) - video).mean(-1)
        inside, outside = change[lips].mean(), change[~lips].mean()
        ratio = f"{inside / outside:.1f}" if outside else "–"
        fit = psnr_inside(video, truth, lips)
        lines.append(f"| {name} | {inside:.2f} | {outside:.2f} | {ratio} | {fit:.2f} |")
    lines += ["", "Changes are mean differences of pixels from the video of its own sound, of 255."]
    said |= {"recording": truth, **videos}
    shown = np.linspace(0, len(truth) - 1, SHOWN + 1).astype(int)[1:]
    rows = [np.concatenate(list(said[name][shown]), 1) for name in ("recording", "prior alone", *MOUTHS[2:4])]
    cv2.imwrite(str(out / "sheet.png"), np.concatenate(rows)[..., ::-1])
    shown = np.linspace(0, len(truth) - 1, MOUTH_SHOWN + 1).astype(int)[1:]
    rows = [mouths(clip, shown, said[name]) for name in MOUTHS]
    cv2.imwrite(str(out / "mouths.png"), np.concatenate(rows)[..., ::-1])
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", metavar="DATA", type=Path, help="prepared clips")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the experiment")
    parser.add_argument("--other", type=Path, required=True, help="speech of another recording")
    parser.add_argument("--clip", help="key of the clip; the longest with sound by default")
    parser.add_argument("--model", default=str(ROOT / "configs" / "model_default.yaml"), help="a model's description")
    parser.add_argument("--vae", default="null", help="autoencoder that the latents were made with")
    parser.add_argument("--steps1", type=int, default=250, help="steps of stage 1 (250)")
    parser.add_argument("--steps2", type=int, default=1000, help="steps of stage 2 (1000)")
    parser.add_argument("--batch1", type=int, default=4, help="frame pairs of a step of stage 1 (4)")
    parser.add_argument("--batch2", type=int, default=3, help="windows of a step of stage 2 (3)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more for train/avatar.py")
    parser.add_argument("--minutes", type=float, help="stop training after so many; the same command goes on")
    args = parser.parse_args()
    until = time.monotonic() + 60 * (args.minutes or 1e6)
    try:
        clip = choose_clip(args.data, args.out / "clip", args.clip)
        other = np.concatenate(list(open_speech(args.other).chunks()))[: len(clip) * FRAME_SAMPLES]
        if len(other) < len(clip) * FRAME_SAMPLES:
            raise ValueError(f"{args.other} is shorter than the clip, {len(clip) / FPS:g} s; give a longer recording")
        if not all(train_stage(stage, args.out, args, until) for stage in (1, 2)):
            print("stopped; the same command goes on")
            return 0
        pipeline = AvatarPipeline.from_pretrained(args.out / "stage2" / "last")
        pipeline.set_progress_bar_config(disable=True)
        lines = report(clip, pipeline, other, args.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (args.out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
