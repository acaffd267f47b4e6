"""Videos of what a gesture model makes of validation speech, beside what was recorded, with sound."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from avatar.video_io import VideoWriter
from pose.acoustics import SAMPLE_RATE
from pose.datasets.check import Dataset
from pose.datasets.clip import Clip
from pose.pipeline import GesturePipeline
from pose.speech import SpeechFeatures
from pose.stick_figure import draw_figure
from train.features import ClipArrays


def show_samples(
    pipeline: GesturePipeline,
    dataset: Dataset,
    clips: Sequence[ClipArrays],
    hears: Callable[[Clip], SpeechFeatures],  # of `FeatureCache`
    folder: Path,
    step: int,
    seconds: float,
) -> None:
    """One video a clip: the recording on the left, the model on the right. Clips without rotations show the model."""
    for clip in clips:
        loaded = dataset.load(clip.recording, pipeline.fps).between(0, seconds)
        waveform, features = loaded.waveform, hears(loaded)
        style = clip.style if clip.style in pipeline.config.styles else None
        speaker = clip.speaker if clip.speaker in pipeline.config.speakers else None
        made = pipeline(features, style=style, speaker=speaker).motions[0]
        frames = draw_figure(made, label="model")
        if loaded.motion is not None:
            count = min(len(frames), len(loaded.motion))
            recorded = draw_figure(loaded.motion[:count], label="recording")
            frames = np.concatenate([recorded, frames[:count]], 2)
        with tempfile.TemporaryDirectory() as scratch:
            sound = Path(scratch) / "sound.wav"
            soundfile.write(sound, waveform, SAMPLE_RATE)
            name = clip.name.replace("/", "_")
            path = folder / f"step_{step:08d}_{name}.mp4"
            size = (frames.shape[1], frames.shape[2])
            with VideoWriter(path, size, pipeline.fps, len(frames), sound) as writer:
                for frame in frames:
                    writer.write(frame)
