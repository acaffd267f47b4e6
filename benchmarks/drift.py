"""Does a long video keep its colours, its sharpness and its face? The last seconds of it against the first.

    python benchmarks/drift.py talking.mp4 [MORE.mp4 …] [--seconds 10]

A row a video and stretch; "control" compares the two halves of the first stretch, which differ by motion alone:

    colour    largest difference of the mean red, green and blue of the whole picture, of 255; and of the aligned face
    sharp     variance of the Laplacian of the aligned face, last over first
    face      PSNR of the mean aligned face, dB: the same head, averaged over its motion

Faces are aligned by `avatar.metrics.identity.aligned_face` with the product's own detector, five frames a second.

Letters: F frames, S side of an aligned face.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.metrics.identity import aligned_face
from avatar.metrics.images import psnr
from pose.detect import PersonDetector
from pose.images import read_video
from pose.keypoints import FACE

RATE = 5.0  # frames a second that are looked at


def stretches(path: Path, seconds: float) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """The first and the last `seconds` of a video; ValueError when it is too short for both."""
    count = round(seconds * RATE)
    frames = read_video(path, RATE)
    first, last = list(islice(frames, count)), []
    for frame in frames:
        last = [*last[-count + 1 :], frame]
    if len(last) < count:
        raise ValueError(f"{path} is shorter than twice {seconds:g} s; give a longer video or fewer --seconds")
    return first, last


def faces(frames: list[NDArray[np.uint8]], detector: PersonDetector) -> NDArray[np.uint8]:
    """Aligned faces (F, S, S, 3)."""
    found = [detector.image(frame, matte=False).keypoints for frame in frames]
    return np.stack([aligned_face(frame, seen.points[0, FACE]) for frame, seen in zip(frames, found, strict=True)])


def compared(first: list[NDArray[np.uint8]], last: list[NDArray[np.uint8]], detector: PersonDetector) -> list[float]:
    """What the module says, of two stretches."""
    pictures = [np.stack(part).mean((0, 1, 2)) for part in (first, last)]
    heads = [faces(part, detector) for part in (first, last)]
    means = [part.mean(0) for part in heads]
    sharp = [np.mean([cv2.Laplacian(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var() for x in h]) for h in heads]
    return [
        float(np.abs(pictures[1] - pictures[0]).max()),
        float(np.abs(means[1].mean((0, 1)) - means[0].mean((0, 1))).max()),
        float(sharp[1] / sharp[0]),
        float(psnr(means[0][None], means[1][None])[0]),
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stretch")
    args = parser.parse_args(argv)
    print("| video | stretches | colour | colour of the face | sharp | face, dB |\n|---|---|---|---|---|---|")
    with PersonDetector() as detector:
        for path in args.videos:
            try:
                first, last = stretches(path, args.seconds)
            except ValueError as error:
                parser.exit(2, f"error: {error}\n")
            half = len(first) // 2
            for name, pair in (("last, first", (first, last)), ("control", (first[:half], first[half:]))):
                colour, skin, sharp, face = compared(*pair, detector)
                print(f"| {path.name} | {name} | {colour:.2f} | {skin:.2f} | {sharp:.3f} | {face:.1f} |", flush=True)


if __name__ == "__main__":
    main()
