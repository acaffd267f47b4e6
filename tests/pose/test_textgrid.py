"""TextGrids: round trips, both forms, encodings, files that are broken, real files where they are at hand."""

from pathlib import Path

import pytest

from pose.textgrid import Interval, read_textgrid, write_textgrid

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "speech"
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
1
"IntervalTier"
"words"
0 2 2
0 1 "say ""3 4"" item [1]"
1 2 ""
"""


def test_round_trip(tmp_path):
    words = [Interval(0.25, 0.5, 'a "quoted" word'), Interval(0.5, 1.0, "über"), Interval(1.5, 2.0, "x = 3")]
    path = tmp_path / "a.TextGrid"
    write_textgrid(path, {"words": words, "phones": []}, 2.0)
    tiers = read_textgrid(path)
    assert list(tiers) == ["words", "phones"]
    assert [interval for interval in tiers["words"] if interval.text] == words
    assert sum(b - a for a, b, _ in tiers["words"]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="overlaps"):
        write_textgrid(path, {"words": [Interval(0, 3, "x")]}, 2.0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_short_form(tmp_path, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_bytes(SHORT.encode(encoding))
    assert read_textgrid(path) == {"words": (Interval(0, 1, 'say "3 4" item [1]'), Interval(1, 2, ""))}


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_cut_off(tmp_path, part):
    path = tmp_path / "a.TextGrid"
    path.write_text(SHORT[: int(len(SHORT) * part)])
    with pytest.raises(ValueError):
        read_textgrid(path)


def test_real_files():
    paths = sorted(SHARED.rglob("*.TextGrid"))
    if not paths:
        pytest.skip("no real TextGrids in ../shared/data/speech")
    for path in paths:
        tiers = read_textgrid(path)
        assert tiers and all(a <= b for tier in tiers.values() for a, b, _ in tier)
