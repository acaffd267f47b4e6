"""How long the whole gesture suite takes on an hour of motion.

    python benchmarks/gesture_speed.py SPEECH --work out/hour

Makes the hour once: the recordings of a folder one after the other, in files of five minutes, each with procedural
motion of two seeds at 30 frames a second, faces included; one is the ground truth. Then runs `infer/evaluate.py
gesture` on it, as a user would, with ground truth, speech, another's speech, plots and all columns, and prints wall
and CPU time.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from pose.acoustics import SAMPLE_RATE
from pose.prosody import prosody_motion
from pose.speech import open_speech, speech_features

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = (".wav", ".flac")
FPS = 30.0


def sounds(folder: Path, seconds: float) -> Iterator[NDArray[np.float32]]:
    """Endless speech in pieces of `seconds`; the folder begins anew when it is used up."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no speech ({', '.join(SUFFIXES)})")
    wanted, held = round(seconds * SAMPLE_RATE), np.zeros(0, np.float32)
    while True:
        for path in paths:
            held = np.concatenate([held, *open_speech(path).chunks()])
            while len(held) >= wanted:
                yield held[:wanted]
                held = held[wanted:]


def make(folder: Path, speech: Path, minutes: float, files: int) -> None:
    """FOLDER/{made,true,sound}; files that are there already are left."""
    from tqdm import tqdm

    for part in ("made", "true", "sound"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    supply = sounds(speech, minutes * 60 / files)
    for number in tqdm(range(files), unit="file", desc="making"):
        name, sound = f"{number}_speaker_0_1_1", next(supply)
        if (folder / "sound" / f"{name}.wav").is_file():
            continue
        features = speech_features(sound, FPS)
        prosody_motion(features, number).save(folder / "true" / f"{name}.npz")
        prosody_motion(features, 1000 + number).save(folder / "made" / f"{name}.npz")
        soundfile.write(folder / "sound" / f"{name}.wav", sound, SAMPLE_RATE)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path, help="folder of .wav or .flac")
    parser.add_argument("--work", type=Path, required=True, help="folder for the hour, kept for the next run")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--make-only", action="store_true", help="stop when the hour is there")
    args = parser.parse_args(argv)
    make(args.work, args.speech, args.minutes, args.files)
    if args.make_only:
        return 0
    shutil.rmtree(args.work / "report", ignore_errors=True)  # kept results would be read instead
    command = [
        sys.executable, str(ROOT / "infer/evaluate.py"), "gesture", str(args.work / "made"),
        "--reference", str(args.work / "true"), "--audio", str(args.work / "sound"),
        "--output", str(args.work / "report"), "--jobs", str(args.jobs),
    ]  # fmt: skip
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{args.minutes:g} minutes of motion in {args.files} files, {args.jobs} processes: {wall:.0f} s, {cpu:.0f} s "
        f"of CPU time, {after.ru_maxrss / 1024:.0f} MB the largest process"
    )
    return done


if __name__ == "__main__":
    sys.exit(main())
