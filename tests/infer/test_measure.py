"""The arithmetic of the table, on numbers whose answer is known; the whole run is `python infer/measure.py`."""

import numpy as np
import pytest

from infer.measure import (
    EXTREME_ANGLES,
    Result,
    extreme_angles,
    find_photos,
    longest,
    main,
    motion_rows,
    table,
)
from pose.arm_turns import turned_arms
from pose.keypoints import COUNT, FACE, LEFT_HAND, RIGHT_HAND, Keypoints


def test_longest_run():
    assert longest([]) == 0 and longest([True] * 3 + [False] + [True] * 5) == 5


def test_motion_rows_of_a_circling_wrist():
    """Radius 0.2 sw, one turn a second: speed 0.2 * 2 pi, acceleration 0.2 * (2 pi)^2 sw."""
    fps, unit = 100.0, 150.0
    turn = 2 * np.pi * np.arange(300) / fps
    points = np.zeros((300, COUNT, 2), np.float32)
    points[:, 9] = np.stack([np.cos(turn), np.sin(turn)], 1) * 0.2 * unit
    points[250:] = points[250]
    confidence = np.zeros((300, COUNT), np.float32)
    confidence[:, LEFT_HAND] = 1
    result = Result("circle")
    motion_rows(result, Keypoints(points[:250], confidence[:250], (512, 512), fps), np.ones(250, bool), unit)
    assert result.speed == pytest.approx(0.2 * 2 * np.pi, rel=0.01)
    assert result.acceleration == pytest.approx(0.2 * (2 * np.pi) ** 2, rel=0.02)
    motion_rows(result, Keypoints(points, confidence, (512, 512), fps), np.ones(300, bool), unit)
    assert result.freeze == pytest.approx(0.49)


def test_extremes_keep_bone_lengths_and_mirror():
    points = np.random.default_rng(0).normal(size=(COUNT, 2)).astype(np.float32) * 50 + 200
    moved = turned_arms(points, extreme_angles((1, 1, 1)))
    for a, b in ((5, 7), (7, 9), (6, 8), (8, 10), (9, LEFT_HAND.start + 8), (10, RIGHT_HAND.start + 8)):
        before, after = (np.linalg.norm(p[a] - p[b]) for p in (points, moved))
        assert after == pytest.approx(before, rel=1e-3)
    assert np.array_equal(moved[FACE], points[FACE]) and np.array_equal(moved[5], points[5])
    upper = [np.arctan2(*(p[7] - p[5])) for p in (points, moved)]
    assert abs(np.angle(np.exp(1j * (upper[1] - upper[0])))) == pytest.approx(EXTREME_ANGLES[0], abs=1e-3)


def test_table_names_the_worst_and_counts_failures():
    results = [Result("a", wrists=0.02, lips_r=0.99, hands_due=10, hands_seen=9), Result("b", wrists=0.05, lips_r=0.8)]
    text = table(results, {"c": "no person found"}, {"d": "KeyError: 1"}, 8)
    assert "| wrists, sw | 0.035 | 0.050 (b)" in text and "0.800 (b)" in text
    assert "2 of 3" in text and "90.0 %" in text and "c: no person found" in text and "d: KeyError" in text


def test_bad_folders_are_one_line(tmp_path, capsys):
    with pytest.raises(ValueError, match="no photo"):
        find_photos(tmp_path, None)
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
