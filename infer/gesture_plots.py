"""Pictures of a gesture evaluation: speed of the joints, beats and mouth over the waveform, the worst cases drawn."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  the backend must be chosen first

from infer.gesture_files import Job, read_motion
from pose.datasets.clip import read_sound
from pose.metrics.onsets import audio_beats
from pose.metrics.smoothness import speeds
from pose.metrics.suite import BODY_FPS, Body
from pose.motion import expression_index
from pose.stick_figure import draw_figure

SHOWN = (
    "Head",
    "LeftArm",
    "LeftForeArm",
    "LeftHand",
    "RightArm",
    "RightForeArm",
    "RightHand",
    "Spine3",
    "LeftToeBase",
)
SECONDS = 20.0  # of a file that are drawn
FIGURES = 8


def plot_file(job: Job, path: Path) -> None:
    """Three panels of one file: mean speed of joints, wrist speed with audio beats, mouth with the waveform."""
    bodies = {"generated": Body(read_motion(job.motion))}
    if job.reference:
        bodies["ground truth"] = Body(read_motion(job.reference))
    figure, (speed, beat, mouth) = plt.subplots(3, 1, figsize=(12, 9), layout="constrained")
    width = 0.8 / len(bodies)
    for place, (name, body) in enumerate(bodies.items()):
        means = speeds(body.places(*SHOWN) - body.positions[:, :1], BODY_FPS).mean(0)
        speed.bar(np.arange(len(SHOWN)) + place * width, means, width, label=name)
        wrists = speeds(body.places("LeftHand", "RightHand"), BODY_FPS).sum(1)[: int(SECONDS * BODY_FPS)]
        beat.plot(np.arange(len(wrists)) / BODY_FPS, wrists, lw=1, label=name)
        if body.given.expression is not None:
            opening = body.given.expression[: int(SECONDS * body.given.fps), expression_index("jawOpen")]
            mouth.plot(np.arange(len(opening)) / body.given.fps, opening, lw=1, label=name)
    speed.set_xticks(np.arange(len(SHOWN)), SHOWN)
    speed.set(ylabel="cm/s", title=f"{job.name}: mean speed relative to the hips")
    beat.set(ylabel="wrists, cm/s", title="wrist speed and audio beats")
    mouth.set(ylabel="jawOpen", xlabel="s", title="mouth opening over the waveform")
    if job.audio:
        sound = read_sound(job.audio)[: int(SECONDS * 16000)]
        try:
            for time in audio_beats(sound):
                beat.axvline(time, color="0.7", lw=0.6, zorder=0)
        except ValueError:
            beat.set_title("wrist speed; the sound has no beats")
        envelope = np.abs(sound[: len(sound) // 160 * 160].reshape(-1, 160)).max(1)
        mouth.fill_between(
            np.arange(len(envelope)) / 100, envelope / max(envelope.max(), 1e-9), color="0.85", zorder=0
        )
    for axes in (speed, beat, mouth):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def contact_sheet(job: Job, size: int = 192) -> NDArray[np.uint8]:
    """(H, W, 3): eight poses of the generated motion, below them those of the ground truth at the same times."""
    rows: list[NDArray[np.uint8]] = []
    for name, path in (("generated", job.motion), ("ground truth", job.reference)):
        if path is None:
            continue
        motion = read_motion(path)
        places = np.linspace(0, len(motion) - 1, FIGURES).astype(int)
        labels = [f"{name} {k / motion.fps:.1f} s" for k in places]
        labels[0] = f"{job.name[:20]} {'true' if rows else ''}"
        pictures = [draw_figure(motion[k : k + 1], size, label) for k, label in zip(places, labels, strict=True)]
        rows.append(np.concatenate([picture[0] for picture in pictures], 1))
    return np.concatenate(rows)


def worst_sheet(jobs: list[Job], path: Path) -> None:
    """The contact sheets of several files below each other."""
    Image.fromarray(np.concatenate([contact_sheet(job) for job in jobs])).save(path)
