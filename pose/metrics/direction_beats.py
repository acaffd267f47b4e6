"""BC of DiffGesture and HA2G on TED and TED Expressive: angles between bones in windows of 34 frames.

Letters: W windows, F = 34 frames at 15 fps, K bones (9 or 42), N samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pose.metrics.arrays import Double, finite, known
from pose.metrics.beats import alignment, threshold_minima
from pose.metrics.onsets import audio_beats

VARIANTS = ("diffgesture_ted", "diffgesture_expressive", "diffgesture_expressive_released", "ha2g_expressive")
FPS, FRAMES = 15.0, 34
_THRESHOLD = {
    "diffgesture_ted": 0.03,
    "diffgesture_expressive": 0.001,
    "diffgesture_expressive_released": 0.001,
    "ha2g_expressive": 0.03,
}
_FIRST = 2  # frame 1 is never asked, though it has two neighbours

_TED_PAIRS = ((3, 4), (4, 5), (6, 7), (7, 8))
_TED_CHANGES = (0.0034540758933871984, 0.007043459918349981, 0.003493624273687601, 0.007205077446997166)


def _hand_pairs(first: int) -> tuple[tuple[int, int], ...]:
    """Bends of the fingers of a hand whose 15 bones begin at `first`, and the angles between the palm's five."""
    index, middle, pinky, ring, thumb = (first + 3 * finger for finger in range(5))
    bends = [(bone + k, bone + k + 1) for bone in (index, middle, pinky, ring, thumb) for k in (0, 1)]
    return (*bends, (thumb, index), (index, middle), (middle, ring), (ring, pinky))


# Bones 42 and 43 are the normals of the palms.
_EXPRESSIVE_PAIRS = (
    (0, 1), (0, 2), (1, 3), (3, 4), *_hand_pairs(5), (2, 20), (20, 21), *_hand_pairs(22),
    (0, 37), (37, 38), (37, 39), (38, 40), (39, 41), (4, 42), (21, 43),
)  # fmt: skip
_PALMS = ((11, 17), (28, 34))
# Mean change of each angle in the training data, as a part of a half turn, from the released code.
_EXPRESSIVE_CHANGES = (
    0.0027804733254015446, 0.002761547453701496, 0.005953566171228886, 0.013764726929366589, 0.022748252376914024,
    0.039307352155447006, 0.03733552247285843, 0.03775784373283386, 0.0485558956861496, 0.032914578914642334,
    0.03800227493047714, 0.03757007420063019, 0.027338404208421707, 0.01640886254608631, 0.003166505601257086,
    0.0017252820543944836, 0.0018696568440645933, 0.0016072227153927088, 0.005681346170604229, 0.013287615962326527,
    0.021516695618629456, 0.033936675637960434, 0.03094293735921383, 0.03378918394446373, 0.044323261827230453,
    0.034706637263298035, 0.03369896858930588, 0.03573163226246834, 0.02628341130912304, 0.014071882702410221,
    0.0029828345868736506, 0.0015706412959843874, 0.0017107439925894141, 0.0014634154504165053, 0.004873405676335096,
    0.002998138777911663, 0.0030240598134696484, 0.0009890805231407285, 0.0012279648799449205, 0.047324635088443756,
    0.04472292214632034,
)  # fmt: skip


def angle_changes(directions: ArrayLike, variant: str = "diffgesture_ted") -> Double:
    """(W, F): the weighted mean change of the angles between bones; 0 in frame 0.

    `directions` (W, F, K, 3): bone directions with the mean vector added back (HA2G's published values lacked it).
    They need not be of length 1; palm normals are taken before they are made so.
    """
    known(variant, VARIANTS)
    vectors = finite(directions, "directions", dimensions=4)
    ted = variant == "diffgesture_ted"
    bones = 9 if ted else 42
    if vectors.shape[2:] != (bones, 3):
        raise ValueError(f"{variant} needs directions (W, F, {bones}, 3), got {vectors.shape}")
    if not ted:
        normals = [np.cross(vectors[:, :, a], vectors[:, :, b]) for a, b in _PALMS]
        vectors = np.concatenate([vectors, np.stack(normals, 2)], 2)
    # DiffGesture's released code for TED Expressive makes all 44 vectors of a frame one vector of length 1.
    axes = (-2, -1) if variant == "diffgesture_expressive_released" else -1
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=axes, keepdims=True), 1e-12)
    pairs = np.array(_TED_PAIRS if ted else _EXPRESSIVE_PAIRS)
    cosine = (vectors[:, :, pairs[:, 0]] * vectors[:, :, pairs[:, 1]]).sum(-1)
    angle = np.arccos(np.clip(cosine, -1, 1)) / np.pi
    change = (np.abs(np.diff(angle, axis=1)) / np.array(_TED_CHANGES if ted else _EXPRESSIVE_CHANGES)).mean(-1)
    return np.concatenate([np.zeros((len(change), 1)), change], 1)


def beat_consistency_directions(
    waveforms: Sequence[ArrayLike],  # (N,) for each window
    directions: ArrayLike,  # (W, 34, K, 3)
    variant: str = "diffgesture_ted",
) -> float:
    """BC, σ 0.1: mean over the audio beats of all windows; windows without motion or audio beats are left out.

    Motion beats are frames from the third on whose angle change is below both neighbours', one of them by at least the
    threshold: 0.03, and 0.001 in DiffGesture's code for TED Expressive (HA2G: 0.03), so that those two differ. That
    code also divides all bones of a frame by their common length instead of each by its own, which shrinks the angles'
    changes: "diffgesture_expressive_released". "diffgesture_expressive" has its threshold and unit bones.
    """
    score, count = window_scores(waveforms, directions, variant)
    if not count.any():
        raise ValueError("no window has both audio and motion beats")
    return float((score * count).sum() / count.sum())


def window_scores(
    waveforms: Sequence[ArrayLike], directions: ArrayLike, variant: str = "diffgesture_ted"
) -> tuple[Double, Double]:
    """Score (W,) of each window and its number of audio beats (W,), 0 for windows that are left out."""
    changes = angle_changes(directions, variant)
    if len(waveforms) != len(changes):
        raise ValueError(f"one waveform a window is needed, got {len(waveforms)} for {len(changes)} windows")
    score, count = np.zeros(len(changes)), np.zeros(len(changes))
    for number, (waveform, change) in enumerate(zip(waveforms, changes, strict=True)):
        beats = threshold_minima(change, _THRESHOLD[variant], _FIRST)
        if not len(beats):
            continue
        try:
            heard = audio_beats(waveform)
        except ValueError as error:
            if "no audio beats" not in str(error):
                raise
            continue
        score[number], count[number] = alignment(heard, beats / FPS, 0.1), len(heard)
    return score, count
