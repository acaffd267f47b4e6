"""How good the photo-and-voice way is on a folder of photos: the table of docs/prior.md, and pose-extreme sheets.

python infer/measure.py photos/ --audio speech.wav --out table.md --sheets sheets/

Lengths are in shoulder widths (sw) of the photo. Keypoints are detected again, from nothing, on every Nth finished
frame and compared with those that drove it. Photos are found in subfolders too; of a video the first frame is taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pose.arm_turns import turned_arms
from pose.keypoints import FACE, FACE_CONTOUR, HANDS, Keypoints

if TYPE_CHECKING:
    from infer.synthesis import Synthesis

Array = NDArray[np.float32]

PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
VIDEOS = (".mp4", ".mkv", ".mpg", ".mov", ".webm", ".avi")
SURE = 0.5  # confidence from which a point counts as known
START_FRAMES = 10  # a photo may have parted lips, and frame 0 is the photo: they close in the first 0.3 s
QUIET_FRAMES = 6  # silent frames that are sampled besides
QUIET = 0.15  # `energy` below which nobody speaks, of 1
EQUAL_DB = 100.0  # PSNR of frames that are equal in every pixel
MOVED = 2e-4  # sw a frame: slower than this is no motion (a tenth of a pixel at 512)
EXTREMES = {"+ + +": (1, 1, 1), "- - -": (-1, -1, -1), "+ - +": (1, -1, 1), "- + -": (-1, 1, -1)}
EXTREME_ANGLES = (0.25, 0.5, 0.3)  # radians at shoulder, elbow, wrist, as the issue asks


@dataclass
class Result:
    """What was measured on one photo; nan where the photo does not allow it (hands out of the picture)."""

    name: str
    wrists: float = np.nan  # sw, mean distance of the wrists detected again
    face: float = np.nan  # sw, the same for the face contour
    hands_due: int = 0  # hands that were in the photo and are in the frame, over all sampled frames
    hands_seen: int = 0  # of those, detected again
    lips_r: float = np.nan  # Pearson r of the opening detected again with the driving one
    lips_quiet: float = np.nan  # opening in silences, share of the full range, 90th percentile
    still: float = np.nan  # mean absolute change, of 255, where no person is in either frame
    still_photo: float = np.nan  # the same outside the photo's matte alone: moved limbs count
    identity: float = np.nan  # dB PSNR of frame 0 in the matte
    acceleration: float = np.nan  # sw/s², 99.9th percentile, wrists
    speed: float = np.nan  # sw/s, mean, wrists while speaking
    freeze: float = np.nan  # s, longest time without motion
    same: bool | None = None  # the same seed gave the same bytes
    openings: list[tuple[float, float]] = field(default_factory=list)  # eye widths: driving, detected again


def motion_rows(result: Result, keypoints: Keypoints, speaking: NDArray[np.bool_], unit: float) -> None:
    """The rows that driving keypoints alone decide."""
    fps = keypoints.fps or 25.0
    step = np.diff(keypoints.points, axis=0) / unit  # (F - 1, 543, 2) sw
    result.freeze = longest(np.linalg.norm(step, axis=-1).max(axis=1) < MOVED) / fps
    wrists = [9 + k for k, hand in enumerate(HANDS.values()) if keypoints.confidence[0, hand].min() > SURE]
    if wrists:
        travel = keypoints.points[:, wrists].astype(np.float64) / unit
        speed = np.linalg.norm(np.diff(travel, axis=0), axis=-1) * fps
        result.speed = float(speed[speaking[1:]].mean())
        acceleration = np.linalg.norm(np.diff(travel, n=2, axis=0), axis=-1) * fps**2
        result.acceleration = float(np.percentile(acceleration, 99.9))


def longest(flags: Iterable[bool]) -> int:
    """Length of the longest run of True."""
    best = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        best = max(best, run)
    return best


class Bench:
    """Measures photos against one recording; `every` is the step between frames that are rendered."""

    def __init__(
        self, audio: Path, size: int, seed: int, every: int, gestures: str | None = None, chooser: str | None = None
    ) -> None:
        from avatar.models.layer_chooser import LayerChooser
        from infer.gesture import load_gesture_model, load_speech_model
        from pose.detect import PersonDetector
        from pose.speech import SpeechFeatures, open_speech

        self.size, self.seed, self.every = size, seed, every
        self.speech = open_speech(audio)
        energy = SpeechFeatures.join(list(self.speech.features(25.0))).blocks["energy"][:, 0]
        self.speaking = energy > QUIET
        # Lips need some frames to close and open: a silence counts without its first two frames and its last.
        self.quiet = np.array([self.speaking[max(0, k - 2) : k + 2].max() == 0 for k in range(len(energy))])
        self.quiet[:START_FRAMES] = False
        self.detector = PersonDetector()
        self.gestures = None if gestures is None else load_gesture_model(gestures)
        self.network = None if self.gestures is None else load_speech_model(self.gestures, None)
        self.chooser = None if chooser is None else LayerChooser.from_pretrained(chooser).float()

    def person(self, photo: NDArray[np.uint8]) -> Synthesis:
        """The person in a photo, moved as infer/run.py does it."""
        from infer.synthesis import Synthesis, frame_size

        synthesis = Synthesis(photo, frame_size(photo, self.size), seed=self.seed)
        if self.chooser is not None:
            synthesis.mend_with(self.chooser)
        return synthesis

    def driving(self, synthesis: Synthesis) -> Keypoints:
        """The keypoints of the whole video, moved as infer/run.py does it."""
        from infer.run import exactly

        if self.gestures is None:
            moves = synthesis.speech_motion(self.speech)
        else:
            made = synthesis.gesture_motion(self.gestures, self.speech, self.network)
            moves = exactly(made, self.speech.frames(synthesis.fps))
        return Keypoints.concatenated(list(synthesis.keypoints(moves)))

    def measure(self, name: str, photo: NDArray[np.uint8], twice: bool) -> Result:
        """Every row for one photo; ValueError when it shows no face."""
        from avatar.metrics.images import psnr

        result = Result(name)
        synthesis = self.person(photo)
        keypoints = self.driving(synthesis)
        unit = float(synthesis.detection.keypoints.shoulder_width()[0])
        speaking, quiet = (flags[: len(keypoints)] for flags in (self.speaking, self.quiet))
        motion_rows(result, keypoints, speaking, unit)
        some_quiet = np.flatnonzero(quiet)[:: max(1, int(quiet.sum()) // QUIET_FRAMES)]
        numbers = np.union1d(np.arange(0, len(keypoints), self.every), some_quiet)
        frames = self.frames(synthesis, keypoints, numbers)
        inside = synthesis.detection.matte[0] > 0.5
        first = synthesis.moved.render(keypoints[:1]).frames[0].permute(1, 2, 0).cpu().numpy()
        photo_01 = synthesis.image.astype(np.float32) / 255
        result.identity = min(float(psnr(first[None], photo_01[None], 1.0, inside)[0]), EQUAL_DB)
        self.compare_keypoints(result, frames, keypoints[numbers], synthesis.detection.keypoints, quiet[numbers])
        self.compare_backgrounds(result, frames, synthesis.image, synthesis.detection.matte[0], unit)
        if twice:
            again = self.person(photo)
            result.same = bool(np.array_equal(self.frames(again, self.driving(again), numbers), frames))
        return result

    def frames(self, synthesis: Synthesis, keypoints: Keypoints, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The frames with these numbers, (N, H, W, 3) uint8 at the working size."""
        from infer.synthesis import to_uint8

        parts = [
            to_uint8(synthesis.moved.render(keypoints[numbers[k : k + 8]]).frames) for k in range(0, len(numbers), 8)
        ]
        return np.concatenate(parts)

    def compare_keypoints(
        self,
        result: Result,
        frames: NDArray[np.uint8],
        driving: Keypoints,
        photo: Keypoints,
        quiet: NDArray[np.bool_],
    ) -> None:
        """Rows that need keypoints detected again; `driving` are those of the sampled frames."""
        from pose.face_rig import lip_opening

        unit = float(photo.shoulder_width()[0])
        size = np.array(photo.size[::-1])
        contour = [FACE.start + i for i in FACE_CONTOUR]
        wrists, faces, openings, silent = [], [], [], []
        for number, frame in enumerate(frames):
            points = driving.points[number]
            due = {
                side: bool(
                    photo.confidence[0, hand].min() > SURE
                    and ((points[hand] > 0) & (points[hand] < size)).all(axis=-1).mean() > 0.9
                )
                for side, hand in HANDS.items()
            }
            result.hands_due += sum(due.values())
            try:
                found = self.detector.image(frame, matte=False).keypoints
            except ValueError:
                continue
            distance = np.linalg.norm(found.points[0] - points, axis=-1) / unit
            faces.append(distance[contour].mean())
            openings.append((lip_opening(points[None, FACE])[0], lip_opening(found.points[:, FACE])[0]))
            silent.append(quiet[number])
            for index, (side, hand) in enumerate(HANDS.items()):
                if due[side] and found.confidence[0, hand].min() > SURE:
                    result.hands_seen += 1
                    wrists.append(distance[9 + index])
        if wrists:
            result.wrists = float(np.mean(wrists))
        if faces:
            result.face = float(np.mean(faces))
            result.openings = [(float(a), float(b)) for a, b in openings]
            wanted, seen = np.array(openings).T
            if wanted.std() > 0 and seen.std() > 0:
                result.lips_r = float(np.corrcoef(wanted, seen)[0, 1])
            low, high = seen.min(), np.percentile(seen, 98)
            if any(silent) and high > low:
                result.lips_quiet = float(np.percentile((seen[np.array(silent)] - low) / (high - low), 90))

    def compare_backgrounds(
        self, result: Result, frames: NDArray[np.uint8], photo: NDArray[np.uint8], matte: Array, unit: float
    ) -> None:
        """How much moves where nobody is: outside the photo's matte, and outside every person seen in the frame."""
        import cv2

        margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(0.03 * unit)) + 1,) * 2)
        person = cv2.dilate((matte > 0.05).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        still, still_photo = [], []
        for frame in frames:
            change = np.abs(frame.astype(np.float32) - photo).mean(axis=2)
            now = cv2.dilate((self.detector.people_mask(frame) > 0.1).astype(np.uint8), margin) > 0
            still_photo.append(change[~person].mean() if not person.all() else 0.0)
            still.append(change[~(person | now)].mean() if not (person | now).all() else 0.0)
        result.still, result.still_photo = float(np.mean(still)), float(np.mean(still_photo))

    def extremes(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photo at four extreme poses at full size: photo and its trust above, frames and trust beside them."""
        from infer.synthesis import to_uint8

        synthesis = self.person(photo)
        reference = synthesis.detection.keypoints
        points = [reference.points[0]]
        points += [turned_arms(reference.points[0], extreme_angles(signs)) for signs in EXTREMES.values()]
        stack = np.stack(points).astype(np.float32)
        driving = Keypoints(stack, np.repeat(reference.confidence, len(stack), axis=0), reference.size)
        prior = synthesis.moved.render(driving)
        frames = to_uint8(prior.frames)
        trust = (prior.confidence[:, 0].cpu().numpy() * 255).astype(np.uint8)
        rows = [np.hstack(list(frames)), np.hstack([np.repeat(t[..., None], 3, axis=2) for t in trust])]
        return np.vstack(rows)


def extreme_angles(signs: tuple[int, int, int]) -> NDArray[np.float64]:
    """Both arms' turns (2, 3) by EXTREME_ANGLES with these signs at shoulder, elbow, wrist."""
    return np.tile(np.array(signs) * np.array(EXTREME_ANGLES), (2, 1))


def table(results: list[Result], refused: dict[str, str], failed: dict[str, str], every: int) -> str:
    """The rows of the issue as a Markdown table, worst photos named, then one line a photo."""

    def column(name: str) -> tuple[NDArray[np.float64], list[str]]:
        values = np.array([getattr(r, name) for r in results], np.float64)
        known = np.isfinite(values)
        return values[known], [r.name for r, k in zip(results, known, strict=True) if k]

    def row(label: str, name: str, limit: str, good: bool, worst: str, digits: int = 3) -> str:
        values, names = column(name)
        if not len(values):
            return f"| {label} | - | - | {limit} |"
        index = int(values.argmax() if good else values.argmin())
        return (
            f"| {label} | {values.mean():.{digits}f} | {values[index]:.{digits}f} ({names[index]}) {worst}| {limit} |"
        )

    due, seen = sum(r.hands_due for r in results), sum(r.hands_seen for r in results)
    share = f"{100 * seen / due:.1f} %" if due else "-"
    same = [r.same for r in results if r.same is not None]
    count = len(results) + len(failed)
    lines = [
        f"{len(results)} photos, every {every}th frame",
        "",
        "| what | mean | worst | at least |",
        "|---|---|---|---|",
        f"| videos, of photos with a face | {len(results)} of {count} | {', '.join(failed) or '-'} | all |",
        row("wrists, sw", "wrists", "≤ 0.06", True, ""),
        row("face contour, sw", "face", "≤ 0.03", True, ""),
        f"| hands detected again | {share} | {worst_hands(results)} | ≥ 95 % |",
        row("lips, Pearson r", "lips_r", "≥ 0.9", False, ""),
        row("lips in silence, share of range", "lips_quiet", "< 0.1", True, ""),
        row("stillness where nobody is, /255", "still", "≤ 0.5", True, ""),
        row("(outside the photo's matte, /255)", "still_photo", "", True, ""),
        row("identity of frame 0, dB", "identity", "≥ 38, each ≥ 32", False, "", 1),
        row("wrist acceleration 99.9 %, sw/s²", "acceleration", "≤ 65", True, "", 1),
        row("wrist speed while speaking, sw/s", "speed", "0.3-1.2", False, "least ", 2),
        row("longest freeze, s", "freeze", "≤ 0.5", True, "", 2),
        f"| same seed, same bytes | {sum(same)} of {len(same)} | | all |",
    ]
    lines += [f"\nNo face, refused: {name}: {why}" for name, why in refused.items()]
    lines += [f"\nFailed: {name}: {why}" for name, why in failed.items()]
    lines += [
        "",
        "| photo | wrists | face | hands | lips r | quiet | still | identity | acc. | speed |",
        "|" + "---|" * 10,
    ]
    lines += [
        f"| {r.name} | {r.wrists:.3f} | {r.face:.3f} | {r.hands_seen}/{r.hands_due} | {r.lips_r:.2f} | "
        f"{r.lips_quiet:.2f} | {r.still:.2f} | {r.identity:.1f} | {r.acceleration:.0f} | {r.speed:.2f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def worst_hands(results: list[Result]) -> str:
    """The photo in which hands are lost most often."""
    shares = [(r.hands_seen / r.hands_due, r.name) for r in results if r.hands_due]
    return f"{100 * min(shares)[0]:.0f} % ({min(shares)[1]})" if shares else "-"


def find_photos(folder: Path, limit: int | None) -> list[Path]:
    """Photos and videos in a folder and below; ValueError when there are none."""
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}; give a folder of photos")
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in PHOTOS + VIDEOS and p.is_file()]
    if not paths:
        raise ValueError(f"no photo or video in {folder}; give a folder with at least one")
    return paths[:limit]


def load(path: Path) -> NDArray[np.uint8]:
    """A photo, or the first frame of a video."""
    from pose.images import load_image, read_video

    return next(read_video(path, 25.0)).copy() if path.suffix.lower() in VIDEOS else load_image(path)


def run(args: argparse.Namespace) -> str:
    """Measure every photo; one that fails is reported and does not stop the rest."""
    import cv2
    from tqdm import tqdm

    from infer.inputs import chosen_chooser, chosen_gestures

    chooser = chosen_chooser(args.model)
    paths = find_photos(args.photos, args.limit)
    gestures = chosen_gestures(args.gesture_model, led=False)
    bench = Bench(args.audio, args.size, args.seed, args.every, gestures, chooser)
    results: list[Result] = []
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    for path in tqdm(paths, unit="photo"):
        if results:
            keep(args, results, refused, failed)
        try:
            photo = load(path)
            bench.detector.image(photo, matte=False)
        except ValueError as error:
            refused[path.stem] = str(error)
            continue
        try:
            if args.sheets:
                args.sheets.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(args.sheets / f"{path.stem}.png"), bench.extremes(photo)[..., ::-1])
            if not args.sheets_only:
                results.append(bench.measure(path.stem, photo, twice=len(results) < args.twice))
        except Exception as error:  # the row of reliability counts whatever goes wrong
            failed[path.stem] = f"{type(error).__name__}: {error}"
    return keep(args, results, refused, failed)


def keep(args: argparse.Namespace, results: list[Result], refused: dict[str, str], failed: dict[str, str]) -> str:
    """The table so far, also written where --out says: an interruption loses nothing."""
    text = table(results, refused, failed, args.every)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps([asdict(r) for r in results]), encoding="utf-8")
    return text


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr when the folder or the recording cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=__doc__.split("\n")[2])
    add = parser.add_argument
    add("photos", type=Path, help="folder of photos; videos stand for their first frame")
    add("--audio", type=Path, default=Path("examples/speech.wav"), help="the recording for all of them")
    add("--out", type=Path, help="also write the table here, and every number beside it as .json")
    add("--sheets", type=Path, help="folder for a picture of each photo at extreme poses, confidence below")
    add("--sheets-only", action="store_true", help="measure nothing")
    add("--limit", type=int, help="only the first so many photos")
    add("--every", type=int, default=8, help="measure every Nth frame (8)")
    add("--twice", type=int, default=3, help="photos that are made twice for the row of determinism (3)")
    add("--size", type=int, default=512, help="side of a square of the video's area (512)")
    add("--seed", type=int, default=0)
    add("--gesture-model", help="as for run.py: what ships if left out, none for motion by rule")
    add("--model", help="a layer chooser's folder: what ships if left out, none for geometry alone")
    began = time.monotonic()
    try:
        print(run(parser.parse_args(argv)))
    except (ValueError, OSError) as error:
        print(f"measure.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"measured in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
