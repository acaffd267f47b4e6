"""Decisions without pixels: where one person is, what is cropped, which clips are cut and kept.

Frames are numbered from the start of a part of a file. F frames, N faces. Boxes are (x0, y0, x1, y1) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar.conditions import KNOWN
from avatar.data.buckets import bucket_sizes, nearest_bucket
from pose.driving import SMOOTH, SMOOTH_FACE
from pose.keypoints import BODY, FACE, FACE_OVAL, HANDS, Keypoints
from pose.signal_stream import smoothed
from train.prepare_settings import CropConfig, FilterConfig, TrackConfig

Array = NDArray[np.float32]
OVAL = [FACE.start + index for index in FACE_OVAL]
HAIR = 0.6  # of the face's height above its oval; hair and a little air
SHOULDERS, CHEST = 1.5, 2.0  # face heights beside and below a face: half a shoulder width and some, half a chest
SHRUNK = 0.6  # a face that is smaller than the last by more than this factor is another one


@dataclass(frozen=True)
class Faces:
    """Faces seen in one frame: boxes (N, 4), the largest first."""

    frame: int
    boxes: Array

    def sizes(self) -> Array:
        return (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1) if len(self.boxes) else np.zeros(0, np.float32)


@dataclass(frozen=True)
class Stretch:
    """Frames `start` to `stop` of a part; `reason` says why they are not used, "" if they are."""

    start: int
    stop: int
    reason: str = ""


def find_tracks(
    samples: Sequence[Faces], frames: int, cuts: Sequence[int], least: int, config: TrackConfig
) -> list[Stretch]:
    """Stretches of one person, and those refused with their reasons, in order. `least`: frames of the shortest."""
    if not frames:
        return []
    found: list[Stretch] = []
    edges = [0, *[cut for cut in cuts if 0 < cut < frames], frames]
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        inside = [sample for sample in samples if start <= sample.frame < stop]
        # Beside a cut some frames are left out, at the ends of the part there is none.
        first = start + config.margin * (start > 0)
        last = stop - config.margin * (stop < frames)
        found += _scene(inside, first, last, least, config)
    return found


def _scene(samples: Sequence[Faces], start: int, stop: int, least: int, config: TrackConfig) -> list[Stretch]:
    """The stretches between two cuts."""
    if stop - start < least:
        return [Stretch(start, stop, f"too brief between two cuts: {max(stop - start, 0)} frames")]
    samples = _without_prints(samples, config)
    states = ["nobody" if not len(s.boxes) else "several" if _second(s, config) else "one" for s in samples]
    # One after the other: runs of the same person, and what lies between them.
    runs: list[list[int]] = []
    gap = round(config.gap_s * 25)
    for number, (state, sample) in enumerate(zip(states, samples, strict=True)):
        if state != "one":
            continue
        near = runs and sample.frame - samples[runs[-1][-1]].frame <= gap + _step(samples)
        between = states[runs[-1][-1] + 1 : number] if runs else []
        if near and "several" not in between and _same(samples[runs[-1][-1]], sample, config):
            runs[-1].append(number)
        else:
            runs.append([number])
    found: list[Stretch] = []
    end = start
    for run in runs:
        first = start if run[0] == 0 else samples[run[0]].frame
        last = stop if run[-1] == len(samples) - 1 else samples[run[-1]].frame + 1
        first, last = max(first, end), min(last, stop)
        if first > end:
            found.append(Stretch(end, first, _why(states, samples, end, first)))
        short = last - first < least
        found.append(Stretch(first, last, f"one person, but too briefly: {last - first} frames" if short else ""))
        end = last
    if end < stop:
        found.append(Stretch(end, stop, _why(states, samples, end, stop)))
    return found


def _without_prints(samples: Sequence[Faces], config: TrackConfig) -> list[Faces]:
    """The samples without faces on somebody's chest, unless most samples show one: a finder sees faces in prints on
    shirts, but not all the time. A print may be larger than the face, which is the one that stays where it is."""
    largest = [(s.boxes[0, :2] + s.boxes[0, 2:]) / 2 for s in samples if len(s.boxes)]
    usual, on_chest = np.median(largest, axis=0) if largest else np.zeros(2), []
    for sample in samples:
        if not len(sample.boxes):
            continue
        middle = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2
        own = int(np.linalg.norm(middle - usual, axis=1).argmin())
        away = (middle - middle[own]) / sample.sizes()[own]
        on_chest.append((np.abs(away[:, 0]) < 1) & (away[:, 1] > 0.5) & (away[:, 1] < 4))
    often = np.mean([flags.any() for flags in on_chest]) > config.print_share if on_chest else True
    if often:
        return list(samples)
    flags = iter(on_chest)
    return [Faces(s.frame, s.boxes[~next(flags)]) if len(s.boxes) else s for s in samples]


def _second(sample: Faces, config: TrackConfig) -> bool:
    sizes = sample.sizes()
    return len(sizes) > 1 and bool(sizes[1] >= config.second_face * sizes[0])


def _same(before: Faces, after: Faces, config: TrackConfig) -> bool:
    """Whether the largest faces of two samples are one person's."""
    (old, new), sizes = (s.boxes[0] for s in (before, after)), (before.sizes()[0], after.sizes()[0])
    travel = float(np.linalg.norm((old[:2] + old[2:] - new[:2] - new[2:]) / 2))
    return bool(travel <= config.jump * max(sizes) and min(sizes) >= SHRUNK * max(sizes))


def _step(samples: Sequence[Faces]) -> int:
    return samples[1].frame - samples[0].frame if len(samples) > 1 else 0


def _why(states: Sequence[str], samples: Sequence[Faces], start: int, stop: int) -> str:
    inside = [state for state, sample in zip(states, samples, strict=True) if start <= sample.frame < stop]
    if "several" in inside:
        people = max(len(s.boxes) for s in samples if start <= s.frame < stop)
        return f"several people of similar size: {people}"
    return "no face" if inside else "between two people"


def smoothed_keypoints(keypoints: Keypoints) -> Keypoints:
    """Jitter of detection taken out as `pose.driving` does it, part by part where it is seen without a break."""
    points = keypoints.points.copy()
    for part, deviation in ((BODY, SMOOTH), *((hand, SMOOTH) for hand in HANDS.values()), (FACE, SMOOTH_FACE)):
        seen = keypoints.confidence[:, part].max(axis=1) > 0
        edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8)))
        for start, stop in edges.reshape(-1, 2):
            rows = points[start:stop, part].reshape(stop - start, -1).astype(np.float64)
            points[start:stop, part] = np.stack(list(smoothed(rows, deviation))).reshape(stop - start, -1, 2)
    return replace(keypoints, points=points)


@dataclass(frozen=True)
class Crop:
    """Where a track is cut out of its file, in its pixels, and the clip's `size` (height, width)."""

    x: int
    y: int
    width: int
    height: int
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Pixels of the clip for one of the file."""
        return self.size[0] / self.height

    def applied(self, keypoints: Keypoints) -> Keypoints:
        """Keypoints of the file as keypoints of the clip."""
        factor = np.array([self.size[1] / self.width, self.size[0] / self.height], np.float32)
        points = (keypoints.points - np.array([self.x, self.y], np.float32)) * factor
        outside = ((points < 0) | (points > np.array(self.size[::-1], np.float32))).any(axis=-1)
        # As the detector does with points beyond its picture (pose/person.py).
        was_outside = ((keypoints.points < 0) | (keypoints.points > np.array(keypoints.size[::-1]))).any(axis=-1)
        confidence = np.where(outside & ~was_outside, keypoints.confidence * 0.2, keypoints.confidence)
        return replace(keypoints, points=points, confidence=confidence.astype(np.float32), size=self.size)


def plan_crop(keypoints: Keypoints, config: CropConfig) -> Crop:
    """One crop for all frames, in the shape of the nearest bucket, never beyond the picture."""
    low, high = person_box(keypoints, config)
    air = config.margin * (high - low)
    height, width = keypoints.size
    low, high = np.maximum(low - air, 0), np.minimum(high + air, [width, height])
    wanted = np.maximum(high - low, 16)
    size = nearest_bucket(wanted[1], wanted[0], bucket_sizes(config.size, largest=config.largest_aspect))
    aspect = size[1] / size[0]
    # The shorter side grows to the shape; where the picture ends, both shrink.
    box = np.array([max(wanted[0], wanted[1] * aspect), max(wanted[1], wanted[0] / aspect)])
    box *= min(1.0, width / box[0], height / box[1])
    # Across about the person's middle; down from the top of the head, which is never cut.
    x = np.clip((low[0] + high[0] - box[0]) / 2, 0, width - box[0])
    y = np.clip(low[1] + min(0.0, (wanted[1] - box[1]) / 2), 0, height - box[1])
    whole = np.maximum(np.round(box), 2).astype(int)
    x, y = min(round(float(x)), width - whole[0]), min(round(float(y)), height - whole[1])
    return Crop(int(max(x, 0)), int(max(y, 0)), int(min(whole[0], width)), int(min(whole[1], height)), size)


def person_box(keypoints: Keypoints, config: CropConfig) -> tuple[Array, Array]:
    """Corners (2,) and (2,) of where head, trunk, arms and hands are in nearly all frames; legs are left out."""
    points, known = keypoints.points, keypoints.confidence >= KNOWN
    height, width = keypoints.size
    face = points[:, OVAL]
    seen = known[:, OVAL].mean(axis=1) > 0.5
    if not seen.any():
        raise ValueError("no face was found by the detector")
    crown = face[..., 1].min(1) - HAIR * (face[..., 1].max(1) - face[..., 1].min(1))
    upper = [*OVAL, 5, 6, 7, 8, 9, 10, *range(HANDS["left"].start, HANDS["right"].stop)]
    marked = np.where(known[:, upper, None], points[:, upper], np.nan)
    low = np.nanpercentile(np.nanmin(marked[seen], axis=1), 2, axis=0)
    high = np.nanpercentile(np.nanmax(marked[seen], axis=1), 98, axis=0)
    low[1] = min(low[1], np.percentile(crown[seen], 2))
    # A head alone is not a picture: shoulders are an arm's width around it, also where they are not seen.
    middle, tall = np.median(face[seen].mean(1), axis=0), float(np.median(np.ptp(face[seen][..., 1], axis=1)))
    low[0], high[0] = min(low[0], middle[0] - SHOULDERS * tall), max(high[0], middle[0] + SHOULDERS * tall)
    high[1] = max(high[1], middle[1] + CHEST * tall)
    shoulders, hips = points[seen][:, [5, 6], 1].mean(), points[seen][:, [11, 12], 1].mean()
    # Hips that are below the picture still say where the trunk ends.
    high[1] = max(high[1], min(hips + config.below_hips * (hips - shoulders), height))
    return np.clip(low, 0, [width, height]).astype(np.float32), np.clip(high, 0, [width, height]).astype(np.float32)


def cut_clips(frames: int, least: int, most: int) -> list[tuple[int, int]]:
    """(start, stop) of clips of at most `most` frames, equally long where that leaves `least` for each."""
    count = -(-frames // most)
    if frames // max(count, 1) < least:  # no equal parts are long enough: as many of full length as there are
        return [(start, min(start + most, frames)) for start in range(0, frames - least + 1, most)]
    edges = [round(number * frames / count) for number in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


@dataclass(frozen=True)
class Verdict:
    """Measures of a clip by name, and the reasons against it."""

    measures: dict[str, float]
    reasons: list[str]


def judge_keypoints(keypoints: Keypoints, crop: Crop, config: FilterConfig, most_enlarged: float) -> Verdict:
    """What keypoints (of the clip's pixels) say for and against a clip."""
    face = keypoints.points[:, OVAL]
    seen = np.median(keypoints.confidence[:, FACE], axis=1) > 0.5
    # A face beyond the crop's border has a fifth of its confidence and counts as not seen.
    height = float(np.median(np.ptp(face[..., 1], axis=1)[seen])) if seen.any() else 0.0
    inside = ((face >= 0) & (face <= np.array(keypoints.size[::-1]))).all(axis=-1).mean(axis=1)
    hands = np.stack([np.median(keypoints.confidence[:, part], axis=1) > 0.5 for part in HANDS.values()], axis=1)
    unit = max(float(np.median(keypoints.shoulder_width())), 8.0)
    middle = keypoints.points[:, 5:7].mean(axis=1)
    step = float(np.linalg.norm(np.diff(middle, axis=0), axis=1).max()) / unit if len(middle) > 1 else 0.0
    up = middle - face.mean(axis=1)
    lean = np.abs(np.arctan2(up[:, 0], up[:, 1]))[seen]
    measures = {
        "lean": float(np.median(lean)) if len(lean) else 0.0,
        "face_seen": float(seen.mean()),
        "face_px": height,
        "face_inside": float(np.median(inside)),
        "hands_seen": float(hands.any(axis=1).mean()),
        "both_hands_seen": float(hands.all(axis=1).mean()),
        "jump": step,
        "enlarged": crop.scale,
    }
    reasons = [
        f"{text} {measures[name]:.2f}, at least {getattr(config, name):g}"
        for name, text in (
            ("face_seen", "share of frames with a face"),
            ("face_px", "face height in pixels"),
            ("face_inside", "share of the face inside the picture"),
            ("hands_seen", "share of frames with a hand"),
        )
        if measures[name] < getattr(config, name)
    ]
    if step > config.jump:
        reasons.append(f"the shoulders jump by {step:.2f} shoulder widths, at most {config.jump:g}")
    if measures["lean"] > config.lean:
        reasons.append(f"the person lies on the side: {np.degrees(measures['lean']):.0f} degrees; rotate the video")
    if crop.scale > most_enlarged:
        reasons.append(f"too few pixels: enlarged by {crop.scale:.2f}, at most {most_enlarged:g}")
    return Verdict(measures, reasons)
