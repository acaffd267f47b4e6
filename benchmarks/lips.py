"""Do the lips say what is said? Mouths made for real speech whose phones are known, measured on a face's own mesh.

    python benchmarks/lips.py FOLDER... [--reader avatar/weights/audio] [--model GESTURE_MODEL]

FOLDER: recordings beside Praat TextGrids with a tier phone or phones (ARPAbet or IPA). Rows: the mouth from the
spectrum (pose/visemes.py), the mouth from the reader's phones (pose/phone_lips.py), and that of a gesture model with
expression. The mouth is that of the whole prosody motion, smile and all, on the face of examples/presenter.png.

| column         | is                                                                                              |
|----------------|-------------------------------------------------------------------------------------------------|
| p b m closed   | share of the intervals of p, b, m during which the lips come nearer than CLOSED_MM               |
| others closed  | the same of the other consonants, but those beside p, b, m: false closures                       |
| closing        | AUC of how near the lips come within p, b, m against those other consonants, whatever threshold   |
| vowels closed  | share of the vowels' frames with closed lips                                                    |
| open, mid, close | mean of the widest opening within vowels of that height, mm                                    |
| height         | Spearman's rank correlation of that opening with the height, over vowels                        |
| rounding       | AUC of the width of the mouth, narrow for rounded vowels, w, r, sh, over all other vowels        |
| lag            | frames by which the opening is late against the phones' own: peak of the cross-correlation, found |
|                | between frames by a parabola; and that correlation                                              |
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
FPS = 25.0
CLOSED_MM = 1.0  # of an average face: with lips drawn as lines this is closed; open vowels have 8 to 15
MARGIN_S = 0.02  # half a frame: where a frame's middle may lie outside of the interval that it shows most of
OPEN, MID, CLOSE = ("AA", "AE", "AO", "AW", "AY"), ("AH", "EH", "EY", "OW", "OY", "ER"), ("IH", "IY", "UH", "UW")
ROUNDED, SPREAD = (
    ("UW", "UH", "OW", "AO", "W", "R", "SH", "CH", "JH", "ZH"),
    ("IY", "IH", "EH", "AE", "EY", "AY", "AA"),
)
HEIGHT = {**dict.fromkeys(OPEN, 3.0), **dict.fromkeys(MID, 2.0), **dict.fromkeys(CLOSE, 1.0)}
# What the opening is compared with for the lag: vowels by height, closed lips, closed teeth, the rest between.
WIDTH = {**HEIGHT, **dict.fromkeys("PBM", 0.0), **dict.fromkeys(("F", "V", "S", "Z"), 0.3), "": 0.0}
REACH = 5  # frames

Double = NDArray[np.float64]


def spans(phones: Any, names: Any) -> list[tuple[float, float, str]]:
    """Intervals of these phones."""
    return [(p.start, p.end, p.text) for p in phones if p.text in names]


def other_consonants(phones: Any) -> list[tuple[float, float, str]]:
    """Intervals of consonants that neither are p, b or m nor stand beside one."""
    texts = ["", *(p.text for p in phones), ""]
    kept = [
        p for before, p, after in zip(texts, phones, texts[2:], strict=False)
        if p.text not in {"", "?", *HEIGHT, *"PBM"} and not {before, after} & {*"PBM"}
    ]  # fmt: skip
    return [(p.start, p.end, p.text) for p in kept]


def frames_of(start: float, end: float, count: int) -> slice:
    """The frames whose middles lie within an interval, or half a frame beside it."""
    first = int(np.ceil((start - MARGIN_S) * FPS - 0.5))
    last = int(np.floor((end + MARGIN_S) * FPS - 0.5))
    return slice(max(first, 0), min(last + 1, count))


def larger(first: list[float], second: list[float]) -> float:
    """AUC: the share of pairs in which the first is larger, equal ones by halves."""
    from scipy.stats import rankdata

    ranks = rankdata([*first, *second])[: len(first)]
    return float((ranks.sum() - len(first) * (len(first) + 1) / 2) / (len(first) * len(second)))


def measured(takes: list[tuple[Any, Double, Double]]) -> dict[str, float]:
    """The columns, of (phones, opening (F,) mm, width (F,) mm) of each recording."""
    from scipy.stats import spearmanr

    nearest: dict[str, list[float]] = {"labial": [], "other": []}
    vowel_closed: list[bool] = []
    vowels: list[tuple[float, float]] = []
    narrow: dict[bool, list[float]] = {True: [], False: []}
    curves, weight = np.zeros(2 * REACH + 1), 0
    for phones, opening, width in takes:
        count = len(opening)
        for kind, intervals in (("labial", spans(phones, ("P", "B", "M"))), ("other", other_consonants(phones))):
            for start, end, _ in intervals:
                part = opening[frames_of(start, end, count)]
                if len(part):
                    nearest[kind].append(float(part.min()))
        middles = (np.arange(count) + 0.5) / FPS
        for start, end, name in spans(phones, HEIGHT):
            part = opening[frames_of(start, end, count)]
            if len(part):
                vowels.append((HEIGHT[name], float(part.max())))
            vowel_closed += (opening[(middles >= start) & (middles < end)] < CLOSED_MM).tolist()
        for start, end, name in spans(phones, {*ROUNDED, *SPREAD}):
            part = width[frames_of(start, end, count)]
            if len(part):
                narrow[name in ROUNDED].append(float(part.mean()))
        # The phones' own opening, as fine as the edges are, then as long as a frame.
        fine = np.zeros(count * 20)
        for start, end, name in ((p.start, p.end, p.text) for p in phones):
            fine[int(start * FPS * 20) : int(end * FPS * 20)] = WIDTH.get(name, 1.0)
        want = fine.reshape(count, 20).mean(1)
        for place, lag in enumerate(range(-REACH, REACH + 1)):
            made = opening[REACH + lag : count - REACH + lag]
            curves[place] += count * np.corrcoef(made, want[REACH : count - REACH])[0, 1]
        weight += count
    curves /= weight
    top = int(np.clip(curves.argmax(), 1, 2 * REACH - 1))
    below, at, above = curves[top - 1 : top + 2]
    heights, openings = np.array(vowels).T
    return {
        "p b m closed": float(np.mean(np.array(nearest["labial"]) < CLOSED_MM)),
        "others closed": float(np.mean(np.array(nearest["other"]) < CLOSED_MM)),
        "closing": larger(nearest["other"], nearest["labial"]),
        "vowels closed": float(np.mean(vowel_closed)),
        **{name: float(openings[heights == h].mean()) for name, h in (("open", 3), ("mid", 2), ("close", 1))},
        "height": float(spearmanr(openings, heights)[0]),
        "rounding": larger(narrow[False], narrow[True]),
        "lag": top - REACH + float(0.5 * (below - above) / (below - 2 * at + above)),
        "r": float(at),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--reader", default=str(ROOT / "avatar" / "weights" / "audio"), help="network of phones")
    parser.add_argument("--model", nargs="*", default=[], help="gesture models with expression")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="speakers that say it (default: 1)")
    parser.add_argument("--face", default=str(ROOT / "examples" / "presenter.png"))
    arguments = parser.parse_args(argv)
    from pose.face_rig import EYE_DISTANCE_MM, FaceRig, lip_opening
    from pose.phone_reader import PhoneReader
    from pose.prosody import prosody_motion
    from pose.speech import SpeechFeatures, speech_features
    from train.audio_encoder_report import read_aligned

    try:
        samples = [sample for folder in arguments.folders for sample in read_aligned(folder)]
        reader = PhoneReader(arguments.reader)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rig = FaceRig(*face(arguments.face))

    def opened(expression: NDArray[np.float32]) -> tuple[Double, Double]:
        points = rig.points(expression).astype(np.float64)
        eyes = np.linalg.norm(points[:, 33] - points[:, 263], axis=-1)
        return EYE_DISTANCE_MM * lip_opening(points), EYE_DISTANCE_MM * np.abs(
            points[:, 61, 0] - points[:, 291, 0]
        ) / eyes

    takes: dict[str, list[Any]] = {"spectrum": [], "phones": []}
    for _, sound, phones in samples:
        heard = speech_features(sound, FPS)
        read = SpeechFeatures.join(list(reader.stream([heard])))
        for seed in arguments.seeds:
            for name, features in (("spectrum", heard), ("phones", read)):
                takes[name].append((phones, *opened(prosody_motion(features, seed).expression)))
        for folder in arguments.model:
            for expression in modelled(folder, sound, len(heard), reader, arguments.seeds):
                takes.setdefault(folder, []).append((phones, *opened(expression)))
    seconds = sum(len(sound) for _, sound, _ in samples) / 16000
    said = sum(phone.text in ("P", "B", "M") for _, _, phones in samples for phone in phones)
    print(f"{len(samples)} recordings, {seconds:.0f} s, {said} p b m\n")
    rows = {name: measured(parts) for name, parts in takes.items()}
    columns = list(next(iter(rows.values())))
    print(f"| mouth from | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in rows.items():
        print(f"| {Path(name).name} | {' | '.join(f'{value:.2f}' for value in row.values())} |")
    return 0


def face(path: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mesh points (V, 2) and depth (V,) of the person in a photo."""
    from pose.detect import PersonDetector
    from pose.images import load_image
    from pose.keypoints import FACE

    with PersonDetector() as detector:
        found = detector.image(load_image(path))
    return found.keypoints.points[0, FACE], found.depth[0, FACE]


def modelled(
    folder: str, sound: NDArray[np.float32], frames: int, reader: Any, seeds: list[int]
) -> list[NDArray[np.float32]]:
    """Expressions (F, E) of a gesture model for a recording, at FPS, one for each seed."""
    from pose.pipeline import GesturePipeline
    from pose.speech import speech_features

    pipeline = GesturePipeline.from_pretrained(folder)
    heard = speech_features(sound, pipeline.fps)
    made = pipeline(reader.stream([heard]), seeds=seeds).motions
    return [motion.resampled(FPS).expression[np.minimum(np.arange(frames), len(motion) - 1)] for motion in made]


if __name__ == "__main__":
    sys.exit(main())
