"""Can the networks learn at all? Both training stages on one clip of five seconds, then the clip made from its photo.

    python benchmarks/overfit.py DATA OUT --other another.wav
    python benchmarks/overfit.py DATA OUT --other another.wav --minutes 5      stops then; the same again goes on
    python benchmarks/overfit.py DATA OUT --other another.wav --set crop=16    parts of 128 pixels, mouths most often

DATA is a folder of train/prepare.py with latents and audio states, of which the longest clip with sound is taken.
OUT gets clip/ (that clip alone), stage1/, stage2/, report.md and sheet.png. Measured, on the training clip itself:

- PSNR where the prior doubts itself (confidence below one half), of the prior and of the model; the autoencoder's own
  is the ceiling.
- With the mouth hidden from the model, so that sound alone says it: how far other sound changes the lips, beside what
  it changes elsewhere, and whether the lips are nearer to the recording's with their own sound. Other sound is another
  recording, the clip's own half its length late, and none.

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
from train.avatar_prior import photo_prior, usable_references

ROOT = Path(__file__).resolve().parents[1]
Image = NDArray[np.uint8]
DOUBTFUL = 0.5  # confidence below which the prior's pixels count as doubtful
SHOWN = 6  # frames on the sheet
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
        f"loop.steps={steps}", f"loop.batch_size={(args.batch1, args.batch2)[stage - 1]}", "loop.learning_rate=1e-3",
        "loop.warmup=20", "loop.checkpoint_every=50", "loop.validation_batches=1", "loop.videos=0", "loop.ema=0.98",
        "loop.keep_last=1", "data.prior_photos=1", "crop=null", f"conditions.drop_prior={args.drop_prior}",
        f"conditions.hide_mouth={args.hide_mouth}", *([f"frames={args.frames}"] if stage == 2 else []), *args.set,
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


def report(clip: Clip, pipeline: AvatarPipeline, other: NDArray[np.float32], sheet: Path) -> list[str]:
    """Lines of the report; writes the sheet."""
    reference = int(usable_references(clip)[0])
    keypoints, one = clip.keypoints, slice(reference, reference + 1)
    image, truth = clip.frames(reference, reference + 1)[0].copy(), clip.frames()
    prior = photo_prior(clip, reference).render(keypoints)
    own, lips = clip.waveform()[: len(clip) * FRAME_SAMPLES], lips_mask(clip)
    doubtful = (prior.confidence[:, 0] < DOUBTFUL).numpy()

    def make(sound: NDArray[np.float32], mouth: str) -> Image:
        made = pipeline(
            image, keypoints[one], audio=sound, keypoints=keypoints, prior=prior, mouth=mouth, frame_stride=1,
            generator=torch.Generator().manual_seed(0),
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
    said = {name: make(sound, "sound") for name, sound in sounds.items()}
    videos = {"prior alone": pixels(prior.frames), "model": make(own, "prior")}
    videos |= {f"model, mouth of its {name}": video for name, video in said.items() if name == "own sound"}
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
        "| mouth | of the sound | changes the lips | elsewhere | ratio | PSNR of the lips |",
        "|---" * 6 + "|",
    ]
    pairs = [("sound", name, said["own sound"], video) for name, video in said.items()]
    pairs.append(("prior", "another recording", videos["model"], make(other, "prior")))
    for mouth, name, first, second in pairs:
        change = np.abs(first.astype(np.float64) - second).mean(-1)
        inside, outside = change[lips].mean(), change[~lips].mean()
        ratio = f"{inside / outside:.1f}" if outside else "–"
        fit = psnr_inside(second, truth, lips)
        lines.append(f"| {mouth} | {name} | {inside:.2f} | {outside:.2f} | {ratio} | {fit:.2f} |")
    lines += ["", "Changes are mean differences of pixels from the video of its own sound, of 255."]
    rows = [truth, videos["prior alone"], videos["model"], said["own sound"], said["another recording"]]
    shown = np.linspace(0, len(truth) - 1, SHOWN + 1).astype(int)[1:]
    cv2.imwrite(str(sheet), np.concatenate([np.concatenate(list(row[shown]), 1) for row in rows])[..., ::-1])
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", metavar="DATA", type=Path, help="prepared clips")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the experiment")
    parser.add_argument("--other", type=Path, required=True, help="speech of another recording")
    parser.add_argument("--clip", help="key of the clip; the longest with sound by default")
    parser.add_argument("--model", default=str(ROOT / "configs" / "model_default.yaml"), help="a model's description")
    parser.add_argument("--vae", default="null", help="autoencoder that the latents were made with")
    parser.add_argument("--steps1", type=int, default=1000, help="steps of stage 1 (1000)")
    parser.add_argument("--steps2", type=int, default=1000, help="steps of stage 2 (1000)")
    parser.add_argument("--batch1", type=int, default=4, help="frame pairs of a step of stage 1 (4)")
    parser.add_argument("--batch2", type=int, default=1, help="windows of a step of stage 2 (1)")
    parser.add_argument("--frames", default="null", help="of a window of stage 2; the model's by default")
    parser.add_argument("--drop-prior", type=float, default=0.0, help="share of samples without the prior (0)")
    parser.add_argument("--hide-mouth", type=float, default=0.5, help="share of samples with the mouth hidden (0.5)")
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
        lines = report(clip, pipeline, other, args.out / "sheet.png")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (args.out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
