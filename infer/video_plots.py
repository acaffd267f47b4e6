"""Pictures of an evaluation: the mouth over the sound, and contact sheets of the worst videos."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from infer.saved_scores import Job, Scores, Settings, array
from infer.video_report import ALL, TRUTH, Row

Array = NDArray[np.floating]

ENVELOPE_HZ = 200  # columns of the drawn waveform a second
SECONDS = 20.0  # what can be read on one picture
TILE_HEIGHT, TILES = 200, 6
# Measures whose worst files get a sheet.
WORST = ("lpips", "ssim", "csim", "lip_r", "hkc", "akd", "kpe_hands", "flicker", "background")


def envelope(waveform: Array, rate: int = 16000) -> NDArray[np.float32]:
    """Least and greatest sample of each column, (2, C), of sound (N,)."""
    step = rate // ENVELOPE_HZ
    columns = len(waveform) // step
    parts = waveform[: columns * step].reshape(columns, step)
    return np.stack([parts.min(axis=1), parts.max(axis=1)]).astype(np.float32)


def mouth_plot(path: Path, title: str, opening: Array, loudness: Array, sound: Array | None, fps: float) -> None:
    """The mouth's opening (F,) over the waveform (its `envelope`) and its loudness, and their correlation by lag."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from avatar.metrics.lips import lip_sync

    frames = min(len(opening), len(loudness))
    figure, (wide, narrow) = pyplot.subplots(1, 2, figsize=(14, 3.2), width_ratios=(5, 1), layout="constrained")
    times = np.arange(frames) / fps
    if sound is not None and sound.size:
        columns = np.arange(sound.shape[1]) / ENVELOPE_HZ
        wide.fill_between(columns, *(0.5 + 0.5 * sound / max(float(np.abs(sound).max()), 1e-6)), color="0.82")
    wide.plot(times, loudness[:frames], color="tab:blue", linewidth=0.8, label="loudness")
    top = float(np.nanmax(opening)) if np.isfinite(opening).any() else 1.0
    wide.plot(times, opening[:frames] / max(top, 1e-6), color="tab:red", linewidth=1.2, label="mouth opening")
    wide.set(xlim=(0, min(SECONDS, frames / fps)), ylim=(0, 1.02), xlabel="s", yticks=[], title=title)
    wide.legend(loc="upper right", fontsize=8)
    try:
        result = lip_sync(opening[:frames].astype(float), loudness[:frames].astype(float), fps)
        narrow.plot(1000 * result.lags_s, result.curve, color="tab:red")
        narrow.axvline(1000 * result.lag_s, color="0.6", linewidth=0.8)
        narrow.set(title=f"r {result.correlation:.2f}, best {result.best:.2f}", xlabel="mouth late by, ms")
    except ValueError as error:
        narrow.text(0.5, 0.5, str(error), wrap=True, ha="center", va="center", fontsize=7)
        narrow.set_axis_off()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def strip(video: Path, frames: int, label: str, fps: float) -> NDArray[np.uint8]:
    """Frames spread over a video of so many, in one row under a label, (H, W, 3) RGB."""
    from pose.images import read_video

    wanted = set(np.linspace(0, frames - 1, min(TILES, frames)).round().astype(int).tolist())
    tiles = []
    for number, frame in enumerate(read_video(video, fps, 640)):
        if number in wanted:
            width = round(frame.shape[1] * TILE_HEIGHT / frame.shape[0])
            tiles.append(cv2.resize(frame, (width, TILE_HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8))
    row = np.hstack(tiles)
    bar = np.full((24, row.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, label, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, row])


def save_sheet(path: Path, strips: list[NDArray[np.uint8]]) -> None:
    """Strips below each other as one PNG, padded to the widest."""
    width = max(part.shape[1] for part in strips)
    padded = [np.pad(part, ((0, 6), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in strips]
    cv2.imwrite(str(path), np.vstack(padded)[..., ::-1])


def pictures(folder: Path, jobs: list[Job], rows: list[Row], settings: Settings, work: Path, count: int) -> None:
    """Mouth plots of the least synchronous files of each row, and sheets of the worst files of each measure."""
    from pose.speech import open_speech

    folder.mkdir(exist_ok=True)
    by_name = {(job.system, job.name): job for job in jobs}
    for row in rows:
        files = {name: by_name[row.label, name] for name in row.files if (row.label, name) in by_name}
        heard = sorted((row.files[name]["lip_r"], name) for name in files if "lip_r" in row.files[name])
        for value, name in heard[:count]:
            stem = work / files[name].key(settings)
            sound = np.concatenate(list(open_speech(files[name].audio or files[name].video).chunks()))
            safe = f"{row.label}_{name}".replace(os.sep, "_")
            title = f"{row.label}: {name}, r = {value:.2f}"
            opening, loudness = array(stem, "opening"), array(stem, "loudness")
            assert opening is not None and loudness is not None
            mouth_plot(folder / f"mouth_{safe}.png", title, opening, loudness, envelope(sound), settings.fps)
        for key in WORST:
            values = [(row.files[name][key], name) for name in files if key in row.files[name]]
            if row.label == TRUTH or not values:
                continue
            values.sort(reverse=ALL[key].better == "down")
            strips = []
            for value, name in values[:count]:
                frames = Scores.load(work / files[name].key(settings)).facts["frames"]
                label = f"{name}: {ALL[key].title} {value:.{ALL[key].digits}f}"
                strips.append(strip(files[name].video, frames, label, settings.fps))
            save_sheet(folder / f"worst_{key}_{row.label.replace(os.sep, '_')}.png", strips)
