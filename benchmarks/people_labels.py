"""Whether the product's own detector agrees with the exact labels of synthetic people: what it finds, how far off.

    python benchmarks/people_labels.py CLIPS --frames 4     # CLIPS: what train/render.py wrote; 0.3 s a frame

Errors are in shoulder widths of the exact points, for parts that the detector found.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from avatar.data.shards import ShardFolder
from pose.detect import PersonDetector
from pose.keypoints import FACE, LEFT_HAND, LIPS_INNER_LOWER, LIPS_INNER_UPPER, RIGHT_HAND

LIPS = FACE.start + np.array(LIPS_INNER_UPPER + LIPS_INNER_LOWER)
PARTS = {
    "face (468 points)": np.arange(FACE.start, FACE.start + 468),
    "inner lips": LIPS,
    "irises": np.arange(FACE.start + 468, FACE.stop),
    "left hand": np.arange(LEFT_HAND.start, LEFT_HAND.stop),
    "right hand": np.arange(RIGHT_HAND.start, RIGHT_HAND.stop),
    "shoulders": np.array([5, 6]),
    "elbows": np.array([7, 8]),
    "wrists": np.array([9, 10]),
    "hips": np.array([11, 12]),
}
FOUND = 0.3  # confidence, as avatar.conditions.KNOWN


def measure(folder: Path, frames: int) -> tuple[int, dict[str, list[float]], dict[str, int]]:
    """Frames looked at; errors of each part, one a frame; frames in which each was found."""
    clips = ShardFolder(folder)
    errors: dict[str, list[float]] = {name: [] for name in PARTS}
    found = dict.fromkeys(("face", "body", "left hand", "right hand", "both hands", "all"), 0)
    count = 0
    with PersonDetector() as detector:
        for number in range(len(clips.rows)):
            clip = clips.clip(number)
            for frame in np.unique(np.linspace(0, len(clip) - 1, frames).astype(int)):
                count += 1
                try:
                    seen = detector.image(clip.frames(frame, frame + 1)[0], matte=False).keypoints
                except ValueError:
                    continue
                exact, points, sure = clip.points[frame], seen.points[0], seen.confidence[0]
                unit = np.linalg.norm(exact[5] - exact[6])
                has = {
                    "face": sure[FACE].max() > FOUND,
                    "body": sure[5:9].min() > FOUND,
                    "left hand": sure[LEFT_HAND].max() > FOUND,
                    "right hand": sure[RIGHT_HAND].max() > FOUND,
                }
                has["both hands"] = has["left hand"] and has["right hand"]
                has["all"] = all(has.values())
                for name, value in has.items():
                    found[name] += bool(value)
                for name, indices in PARTS.items():
                    if sure[indices].max() > FOUND:
                        away = np.linalg.norm(points[indices] - exact[indices], axis=1) / unit
                        errors[name].append(float(np.median(away)))
    return count, errors, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of rendered clips")
    parser.add_argument("--frames", type=int, default=4, help="frames of each clip, evenly spread (4)")
    arguments = parser.parse_args()
    try:
        count, errors, found = measure(arguments.clips, arguments.frames)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count} frames; found: " + ", ".join(f"{name} {100 * n / count:.1f} %" for name, n in found.items()))
    print("| part | median error, shoulder widths | 90 % of frames below |\n|---|---|---|")
    for name, values in errors.items():
        shown = f"{np.median(values):.4f} | {np.quantile(values, 0.9):.4f}" if values else "never found | –"
        print(f"| {name} | {shown} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
