"""The audio encoder's training: timed voices, alignment, a run as a user starts it, the report's figures."""

import ctypes.util
import json
import shutil

import numpy as np
import pytest
import torch

from avatar.models.audio_encoder import FIELD, SPEECH_STRIDE, AudioEncoder
from pose.textgrid import Interval, read_textgrid
from train.audio_encoder import build_network, ear_filters, main
from train.audio_encoder_data import SpeechWindows, frame_times, read_corpus
from train.audio_encoder_report import edit_distance, probe
from train.audio_encoder_report import main as report
from train.phones import PHONES, UNKNOWN, labels_at
from train.speech_corpus import main as make
from train.speech_corpus import write_list, write_utterance
from train.speech_labels import align, read_phones
from train.speech_labels import main as label_recordings
from train.speech_voices import Espeak, Utterance, flite_speak

CONFIG = "configs/audio_encoder.yaml"
SENTENCES = "train/speech_sentences.txt"
espeak_only = pytest.mark.skipif(
    not ctypes.util.find_library("espeak-ng"), reason="espeak-ng is not installed (apt install espeak-ng)"
)
flite_only = pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed (apt install flite)")


def high_over_low_db(sound, start, end):
    """How much louder a stretch of sound is above 3.5 kHz than below 2 kHz."""
    power = np.abs(np.fft.rfft(sound[round(start * 16000) : round(end * 16000)])) ** 2
    hertz = np.linspace(0, 8000, len(power))
    return 10 * np.log10(power[hertz > 3500].sum() / power[hertz < 2000].sum())


@espeak_only
def test_espeak_times_fit_the_sound():
    said = Espeak().speak("See a sad sea. Peter papered a paper.", "en-us+f2", 150)
    assert said.phones[0].start < 0.1 and said.phones[-1].end == pytest.approx(said.duration_s, abs=1e-3)
    assert all(a.end == pytest.approx(b.start) for a, b in zip(said.phones[:-1], said.phones[1:], strict=True))
    hiss = [high_over_low_db(said.waveform, p.start, p.end) for p in said.phones if p.text == "S"]
    vowels = [high_over_low_db(said.waveform, p.start, p.end) for p in said.phones if p.text == "IY"]
    assert len(hiss) == 3 and min(hiss) > 5 and max(vowels) < 0
    for stop in [p for p in said.phones if p.text == "P"][1:]:  # the closure is part of the stop, and silent
        closed = said.waveform[round(stop.start * 16000) + 80 :][:160]
        assert np.abs(closed).max() < 0.05 * np.abs(said.waveform).max()


@flite_only
def test_flite_times_fit_the_sound():
    said = flite_speak("See a sad sea.", "kal16", 1.2, 110.0)
    assert [p.text for p in said.phones if p.text] == ["S", "IY", "AH", "S", "AE", "D", "S", "IY"]
    hiss = [high_over_low_db(said.waveform, p.start, p.end) for p in said.phones if p.text == "S"]
    vowels = [high_over_low_db(said.waveform, p.start, p.end) for p in said.phones if p.text == "IY"]
    assert min(hiss) > max(vowels) + 10


@espeak_only
def test_corpus_holds_voices_out(tmp_path, capsys):
    given = [SENTENCES, str(tmp_path / "a"), "--hours", "0.05", "--programs", "espeak", "--seed", "3"]
    assert make(given) == 0
    assert "held out" in capsys.readouterr().out
    utterances = read_corpus(tmp_path / "a")
    voices = {split: {u.voice for u in utterances if u.split == split} for split in ("train", "val")}
    assert voices["train"] and voices["val"] and not voices["train"] & voices["val"]
    assert 180 < sum(u.duration_s for u in utterances) < 200
    assert make([SENTENCES, str(tmp_path), "--hours", "0.01"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert make([SENTENCES, str(tmp_path / "b"), "--programs", "festival"]) == 2


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A corpus that needs no program: low tones are AA, high ones S, silence between; two voices held out."""
    folder = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        parts, phones, time = [], [], 0.0
        for _ in range(12):
            phone, length = ("", "AA", "S")[random.integers(3)], 0.01 * random.integers(8, 20)
            wave = np.sin(2 * np.pi * {"": 0, "AA": 400, "S": 5000}[phone] * np.arange(round(length * 16000)) / 16000)
            parts.append(0.3 * wave + 0.001 * random.normal(size=len(wave)))
            phones.append(Interval(time, time + length, phone))
            time += length
        (folder / "tones").mkdir(exist_ok=True)
        said = Utterance(np.concatenate(parts).astype(np.float32), tuple(phones))
        rows.append(write_utterance(folder, f"tones/{number}", f"v{number}", "val" if number > 9 else "train", said))
    write_list(folder, rows, "tones")
    return folder


def test_windows_keep_labels_with_the_sound(tones):
    """However a window is cut and spoken, what is loud and high is labelled S."""
    windows = SpeechWindows([u for u in read_corpus(tones) if u.split == "train"], 50, augment=True)
    assert windows.samples == FIELD + 49 * SPEECH_STRIDE
    generator = np.random.default_rng(1)
    plain = SpeechWindows(windows.utterances, 50, augment=False)
    for index in range(len(windows)):
        for data in (windows, plain):
            item = data.draw(index, generator)
            assert item["waveform"].shape == (windows.samples,) and item["labels"].shape == (50,)
            assert float(item["waveform"].mean()) == pytest.approx(0, abs=1e-3)
        sound, labels = item["waveform"].numpy(), item["labels"].numpy()  # of the plain one
        pieces = np.lib.stride_tricks.sliding_window_view(sound, FIELD)[::SPEECH_STRIDE] * np.hanning(FIELD)
        power = np.abs(np.fft.rfft(pieces)) ** 2
        highest = power.argmax(1) * 40.0
        inner = labels[1:-1]
        steady = (inner == labels[:-2]) & (inner == labels[2:])
        assert (highest[1:-1][steady & (inner == PHONES.index("S"))] > 4000).all()
        assert (highest[1:-1][steady & (inner == PHONES.index("AA"))] < 1000).all()
    one = windows.draw(0, np.random.default_rng(5))["waveform"]
    assert torch.equal(one, windows.draw(0, np.random.default_rng(5))["waveform"])
    assert not torch.equal(one, windows.draw(0, np.random.default_rng(6))["waveform"])


def test_filters_are_an_ear():
    filters = ear_filters(160, 160)
    assert torch.allclose(filters.norm(dim=1), torch.ones(160))
    highest = torch.fft.rfft(filters[::4]).abs().argmax(1).float() * 100
    assert (highest.diff() >= 0).all() and highest[0] <= 200 and highest[-1] >= 7500


def test_the_clock_must_fit():
    with pytest.raises(ValueError, match="25 ms|400 every 320"):
        build_network({"conv_kernel": [160, 2, 3]})


def test_alignment_finds_the_times():
    """Posteriors of a known sentence, with noise: the phones come out in order and within a frame of their places."""
    random = np.random.default_rng(0)
    names = ["M", "AA", "M", "M", "S", "IY"]
    truth = (
        [0] * 7 + sum(([PHONES.index(n)] * k for n, k in zip(names, (5, 8, 4, 4, 9, 12), strict=True)), []) + [0] * 6
    )
    truth[24:24] = [0] * 10  # a pause between the two M
    logs = np.log(0.3 * np.eye(len(PHONES))[truth] + 0.7 / len(PHONES)) + 0.3 * random.normal(size=(len(truth), 40))
    found = align(logs, names, len(truth) * 0.02 + 0.005)
    assert [phone.text for phone in found if phone.text] == names
    assert (labels_at(found, frame_times(len(truth))) == np.array(truth)).mean() > 0.95
    with pytest.raises(ValueError, match="cannot hold"):
        align(logs[:4], names, 0.1)


def test_unsure_frames_are_unknown():
    logs = np.log(np.full((6, len(PHONES)), 1e-3))
    logs[:3, PHONES.index("S")], logs[3:, PHONES.index("AA")] = np.log(0.9), np.log(0.4)
    labels = labels_at(read_phones(logs, 0.125, 0.6), frame_times(6))
    assert labels.tolist() == [PHONES.index("S")] * 3 + [UNKNOWN] * 3


def test_edit_distance():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("abcdef", "abcdef") == 0


def test_probe_learns_what_is_linear():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(600, 8, generator=generator)
    labels = states[:, :3].argmax(1)
    assert probe((states[:400], labels[:400]), (states[400:], labels[400:])) > 0.9
    assert probe((states[:400], labels[:400]), (torch.randn(200, 8, generator=generator), labels[400:])) < 0.5


TINY = [
    "model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=2", "model.intermediate_size=64",
    "model.conv_dim=[32,32,32]", "model.num_conv_pos_embeddings=8", "model.num_conv_pos_embedding_groups=4",
    "loop.precision='no'", "loop.batch_size=4", "loop.warmup=4", "loop.validation_batches=1", "data.frames=50",
]  # fmt: skip


def test_train_resume_label_report(tones, tmp_path, capsys):
    """Tones are named after 40 steps; the video model's encoder reads the checkpoint; it labels and reports."""
    given = [CONFIG, f"data.folders=[{tones}]", f"loop.output={tmp_path / 'run'}", *TINY, "loop.learning_rate=0.005",
             "loop.decay=constant", "loop.ema=0", "loop.checkpoint_every=20"]  # fmt: skip
    assert main([*given, "loop.steps=20"]) == 0
    assert main([*given, "loop.steps=40"]) == 0
    shown = capsys.readouterr().out
    assert "resuming at step 20" in shown and "2 others to validate" in shown
    losses = [json.loads(line) for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    errors = [row["validation/frame_error"] for row in losses if "validation/frame_error" in row]
    assert errors[-1] < 0.2 < errors[0]

    best = tmp_path / "run" / "best"
    encoder = AudioEncoder.from_speech_model(str(best), num_tokens=2, audio_dim=8, layers=(1, 2))
    assert encoder.states(torch.randn(16000)).shape == (25, 2, 32)
    assert label_recordings([str(best), str(tmp_path / "labels"), str(tones)]) == 0
    read = read_textgrid(tmp_path / "labels" / "real" / "00000.TextGrid")["phones"]
    assert {phone.text for phone in read} >= {"AA", "S"}
    assert all(u.split == "train" for u in read_corpus(tmp_path / "labels"))
    assert report([str(best), "--synthetic", str(tones), "--save", str(tmp_path / "small")]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown.splitlines()[-2])["frame_error"] < 0.2 and "MB" in shown.splitlines()[-1]
    small = AudioEncoder.from_speech_model(str(tmp_path / "small"), num_tokens=2, audio_dim=8)
    assert torch.allclose(small.states(torch.randn(8000)), small.states(torch.randn(8000))) is False
    assert next(small.speech.parameters()).dtype == torch.float32


def test_errors_are_one_line(tmp_path, capsys):
    assert main([CONFIG]) == 2
    assert "data.folders is not set" in capsys.readouterr().err
    assert main([CONFIG, f"data.folders=[{tmp_path}]"]) == 2
    assert "corpus.json" in capsys.readouterr().err
    assert report([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
