"""Speed and memory of the whole command on this machine: python benchmarks/run_time.py (make bench).

Runs infer/run.py on the example photo at 512x512 with 10 s to 5 min of speech (the example, repeated), with the video
model that ships and by geometry alone, and prints wall seconds and peak resident memory of the process with its
children, sampled every 50 ms.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

ROOT = Path(__file__).resolve().parents[1]
PHOTO, SPEECH = ROOT / "examples" / "presenter.png", ROOT / "examples" / "speech.wav"


def watch(command: list[str]) -> tuple[float, float]:
    """Seconds and peak MB of a command and all of its children."""
    began, peak = time.monotonic(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the command failed with {process.returncode}: {' '.join(command)}")
    return time.monotonic() - began, peak / 1e6


def main() -> None:
    speech, rate = soundfile.read(SPEECH)
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    )
    print("| model | speech | frames | seconds | frames a second | peak MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model, seconds, runs in (("default", 10, 3), ("default", 60, 1), ("none", 10, 3), ("none", 300, 1)):
            sound = Path(folder) / f"{seconds}.wav"
            soundfile.write(sound, np.resize(speech, seconds * rate), rate)
            command = [sys.executable, str(ROOT / "infer" / "run.py"), "--image", str(PHOTO), "--audio", str(sound)]
            command += ["--output", f"{folder}/{seconds}.mp4", *(["--model", model] if model == "none" else [])]
            measured = [watch(command) for _ in range(runs)]
            wall, peak = np.median(measured, axis=0)
            frames = seconds * 25
            print(f"| {model} | {seconds} s | {frames} | {wall:.1f} | {frames / wall:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
