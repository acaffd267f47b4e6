"""What the commands are given, checked before anything heavy loads; every refusal is one line of a ValueError."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from avatar.models.layer_chooser import LayerChooser
    from avatar.pipeline import AvatarPipeline
    from avatar.sampling import Guidance
    from pose.motion import Motion
    from pose.speech import SpeechFile

MODEL_FPS = 25.0  # of a pipeline that ships
GESTURES = Path(__file__).parents[1] / "pose" / "weights" / "default"  # the gesture model that ships
LENGTH_TOLERANCE = 2  # frames by which a motion or a driving video may miss the speech's length (rounding of rates)


def parse_size(text: str) -> tuple[int, int] | int:
    """`512` → 512, `640x384` (width × height) → (384, 640) as (height, width)."""
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(part.isdecimal() and 64 <= int(part) <= 2048 for part in parts):
        return int(text) if len(parts) == 1 else (int(parts[1]), int(parts[0]))
    raise ValueError(f"--size must be a number or WIDTHxHEIGHT of 64 to 2048 pixels, got {text!r}")


def parse_guidance(text: str | None) -> Guidance | None:
    """`2.5,4.5` → guidance scales over reference and audio."""
    if text is None:
        return None
    from avatar.sampling import Guidance

    try:
        reference, audio = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--guidance takes two numbers, REFERENCE,AUDIO, as in 2.5,4.5; got {text!r}") from None
    return Guidance(reference, audio)


def load_model(path: str, fps: float, device: str) -> AvatarPipeline | LayerChooser:
    """A video model on its device, in what is fast there; ValueError when there is none or its clock is another."""
    from avatar.build import fast_dtype, load_video_model
    from avatar.pipeline import AvatarPipeline
    from avatar.shipped import located

    model = load_video_model(located(path), fast_dtype(device))
    if not isinstance(model, AvatarPipeline):
        return model.to(device)
    if model.fps != fps:
        raise ValueError(f"{path} makes {model.fps:g} frames a second and --fps is {fps:g}; leave --fps out")
    model.set_progress_bar_config(disable=True)
    return model.to(device)


def chosen_model(model: str | None, fps: float = MODEL_FPS) -> str | None:
    """The video model that `--model` means: what ships where it is left out, None for geometry alone ("none").

    A pipeline that ships makes 25 frames a second; at another rate it is not chosen by itself.
    """
    from avatar.shipped import SHIPPED, WEIGHTS, holds_layer_chooser

    if model is None:
        folder = WEIGHTS / "default"
        fits = folder.is_dir() and (fps == MODEL_FPS or holds_layer_chooser(folder))
        return f"{SHIPPED}default" if fits else None
    return None if model == "none" else model


def chosen_chooser(model: str | None) -> str | None:
    """The layer chooser's folder that `--model` means, None for none; ValueError where it means another model."""
    from avatar.shipped import holds_layer_chooser, located

    chosen = chosen_model(model)
    if chosen is not None and not holds_layer_chooser(located(chosen)):
        raise ValueError(f"--model {chosen} is no layer chooser; give the folder of one, or none for geometry alone")
    return None if chosen is None else located(chosen)


def chosen_gestures(model: str | None, led: bool) -> str | None:
    """The gesture model that `--gesture-model` means: what ships where it is left out, None for prosody ("none").

    `led`: something else gives the motion. What ships hears through the reader of phones, and is nothing without it.
    """
    from avatar.shipped import WEIGHTS

    if model is None:
        ships = GESTURES.is_dir() and (WEIGHTS / "audio").is_dir()
        return str(GESTURES) if ships and not led else None
    return None if model == "none" else model


def model_files(path: str | None) -> list[Path]:
    """The files that a model is read from, in the order of their names; none of one from a hub."""
    from avatar.shipped import located

    path = None if path is None else located(path)
    if path is None or not Path(path).exists():
        return []
    return [Path(path)] if Path(path).is_file() else sorted(p for p in Path(path).rglob("*") if p.is_file())


def load_motion(path: Path, fps: float, frames: int) -> Motion:
    """A .bvh or .npz motion at the video's rate and of `frames` frames.

    ValueError when its length is another or its joints have names that no known skeleton has.
    """
    from pose.body_signals import find_joints
    from pose.bvh import read_bvh
    from pose.motion import Motion

    if path.suffix.lower() not in (".bvh", ".npz"):
        raise ValueError(f"--motion-in reads .bvh and .npz, got {path}")
    motion = (read_bvh(path) if path.suffix.lower() == ".bvh" else Motion.load(path)).resampled(fps)
    find_joints(motion.skeleton)  # an unknown skeleton is refused here
    if abs(len(motion) - frames) > LENGTH_TOLERANCE:
        raise ValueError(
            f"{path} has {len(motion)} frames ({motion.duration_s:.2f} s) and the speech needs {frames}"
            f" ({frames / fps:.2f} s); cut one of them to the length of the other"
        )
    return motion[np.minimum(np.arange(frames), len(motion) - 1)]


def check_driving(path: Path, fps: float, frames: int) -> None:
    """Refuse a driving video that is none or that ends before the speech."""
    import imageio_ffmpeg

    try:
        _, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    except (OSError, RuntimeError):
        raise ValueError(f"{path} is not a video that ffmpeg can read; convert it to mp4") from None
    if seconds * fps < frames - LENGTH_TOLERANCE:
        raise ValueError(
            f"{path} lasts {seconds:.2f} s and the speech {frames / fps:.2f} s; use a longer video or cut the sound"
        )


def choose_device(name: str) -> str:
    """`auto` → cuda when there is one, else cpu; ValueError when the named device cannot be used."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name} cannot be used here ({str(error).splitlines()[0]}); try cpu") from None
    return name


def work_key(settings: object, files: Iterable[Path | None]) -> str:
    """A name for what these settings and files make: the same work after an interruption has the same name."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=6)
    for path in files:
        digest.update(b"|")
        if path is not None:
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


@contextmanager
def playable_sound(path: Path, speech: SpeechFile) -> Iterator[Path]:
    """The recording as a file that ffmpeg can read: itself, or, for formats only libsndfile knows, a 16 kHz copy."""
    import soundfile

    from avatar.video_io import find_ffmpeg
    from pose.acoustics import SAMPLE_RATE

    probe = [find_ffmpeg(), "-v", "error", "-nostdin", "-t", "0.1", "-i", str(path.resolve()), "-map", "0:a:0"]
    if subprocess.run([*probe, "-f", "null", "-"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "speech.flac"
        with soundfile.SoundFile(copy, "w", SAMPLE_RATE, 1) as file:
            for chunk in speech.chunks():
                file.write(chunk)
        yield copy
