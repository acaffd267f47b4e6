"""Phone notations, visemes and labels of frames."""

import numpy as np
import pytest

from pose.textgrid import Interval
from train.phones import PHONES, UNKNOWN, VISEME_OF, VISEMES, labels_at, phones_of, unified


@pytest.mark.parametrize(
    ("label", "phones"),
    [
        ("AA1", "AA"), ("PT", "P T"), ("AX", "AH"), ("", "SIL"), ("sil", "SIL"), ("_:", "SIL"), ("spn", None),
        ("aɪə", "AY AH"), ("ɔːɹ", "AO R"), ("t̪", "T"), ("n̩", "N"), ("tʲ", "T"), ("əl", "AH L"),
        ("tʃ", "CH"), ("ɫ", "L"), ("♫", None),
    ],
)  # fmt: skip
def test_notations(label, phones):
    assert phones_of(label) == (None if phones is None else tuple(phones.split()))


def test_every_phone_has_one_viseme():
    named = [phone for group in VISEMES.values() for phone in group]
    assert sorted(named) == sorted(PHONES)
    lips = [phone for phone, viseme in zip(PHONES, VISEME_OF, strict=True) if viseme == list(VISEMES).index("p b m")]
    assert sorted(lips) == ["B", "M", "P"]


def test_unified_cuts_joins_and_counts():
    notes = {}
    spans = [Interval(0, 0.1, "sil"), Interval(0.1, 0.2, ""), Interval(0.2, 0.4, "aɪə"), Interval(0.4, 0.5, "♫")]
    assert unified(spans, notes) == (
        Interval(0, 0.2, ""),
        Interval(0.2, pytest.approx(0.3), "AY"),
        Interval(pytest.approx(0.3), 0.4, "AH"),
        Interval(0.4, 0.5, "?"),
    )
    assert notes == {"♫": 1}


def test_labels_of_frames():
    spans = (Interval(0.1, 0.2, "M"), Interval(0.2, 0.3, "?"), Interval(0.3, 0.4, ""))
    labels = labels_at(spans, np.array([0.05, 0.1, 0.19, 0.2, 0.35, 0.9]))
    assert labels.tolist() == [0, PHONES.index("M"), PHONES.index("M"), UNKNOWN, 0, 0]
