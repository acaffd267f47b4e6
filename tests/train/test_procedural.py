"""The procedural corpus is BEAT to the reader of BEAT, and its speakers and moods differ as they say."""

import numpy as np
import pytest

from pose.datasets.beat import Beat, emotion_of, split_of
from pose.datasets.check import check, open_dataset
from pose.motion import expression_index
from pose.textgrid import Interval, write_textgrid
from train.procedural import MOODS, Speaker, main, make_corpus, numbers


def test_corpus_reads_as_beat(corpus):
    report = check(open_dataset(corpus))
    assert (report.kind, report.usable, report.unusable) == ("Beat", 8, [])
    assert report.splits == {"train": 4, "val": 4} and set(report.styles) == set(MOODS)
    beat = Beat(corpus)
    clip = beat.load(beat.recordings[0], 30.0)
    assert len(clip) == 105 and clip.motion.expression.max() > 0.05 and clip.semantic.shape == (105,)


def test_made_again_is_the_same_and_whole_ones_are_kept(corpus, speech_folder, tmp_path):
    names = list(make_corpus(speech_folder, tmp_path, speakers=1, limit=2))
    for name in names:
        for suffix in (".bvh", ".json", ".wav", ".txt"):
            assert (tmp_path / "1" / name).with_suffix(suffix).read_bytes() == (
                (corpus / "1" / name).with_suffix(suffix).read_bytes()
            )
    before = (tmp_path / "1" / f"{names[0]}.bvh").stat().st_mtime_ns
    assert list(make_corpus(speech_folder, tmp_path, speakers=1, limit=2)) == names
    assert (tmp_path / "1" / f"{names[0]}.bvh").stat().st_mtime_ns == before


def test_lips_made_at_the_rate_of_a_model_are_read_as_they_were_made(speech_folder, tmp_path):
    list(make_corpus(speech_folder, tmp_path, speakers=1, limit=1, fps=25.0))
    beat = Beat(tmp_path)
    clip = beat.load(beat.recordings[0], 25.0)
    jaw = expression_index("jawOpen")
    made = Speaker.made(1, 0).perform(clip.waveform, clip.style, 25.0).expression
    # The last frames heard sound that trimming to whole frames took away.
    np.testing.assert_allclose(clip.motion.expression[:-5, jaw], made[: len(clip) - 5, jaw], atol=1e-3)


def test_words_come_along(speech_folder, tmp_path):
    speech = tmp_path / "speech"
    speech.mkdir()
    (speech / "a.wav").write_bytes((speech_folder / "0.wav").read_bytes())
    write_textgrid(speech / "a.TextGrid", {"words": [Interval(0.5, 1.0, "hello")]}, 3.5)
    list(make_corpus(speech, tmp_path / "out", speakers=1))
    beat = Beat(tmp_path / "out")
    assert beat.load(beat.recordings[0]).words == (Interval(0.5, 1.0, "hello"),)


@pytest.mark.parametrize("mood", MOODS)
def test_numbers_belong_to_the_mood_and_fill_all_sides(mood):
    taken = list(numbers(mood))
    assert len(set(taken)) == len(taken) >= 3
    assert {emotion_of(0, number) for number in taken} == {mood}
    assert [split_of(0, number) for number in taken[:3]] == ["train", "val", "train"]


def test_speakers_and_moods_move_differently(babble):
    speech = babble(6.0)

    def travel(speaker, mood):
        positions = speaker.perform(speech, mood).positions()[:, [12, 39]]
        return float(np.abs(np.diff(positions, axis=0)).sum())

    one, other = Speaker.made(1, 0), Speaker.made(2, 0)
    assert travel(one, "happiness") > 1.3 * travel(one, "sadness")
    assert not np.allclose(one.perform(speech, "neutral").rotations, other.perform(speech, "neutral").rotations)


def test_empty_folder_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "no speech" in capsys.readouterr().err
