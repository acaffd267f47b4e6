"""The FGD extractor's trainer as a user runs it, on a corpus of eight five-second buzzes."""

import numpy as np
import pytest
import soundfile

from pose.metrics.gesture_features import FRAMES, WIDTH, GestureFeatures
from train.fgd import main
from train.procedural import make_corpus

CONFIG = "configs/fgd.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("fgd")
    (root / "speech").mkdir()
    time = np.arange(5 * 16000) / 16000
    for number in range(8):
        loud = np.maximum(np.sin(2 * np.pi * (2.0 + 0.2 * number) * time), 0)
        buzz = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 10))
        soundfile.write(root / "speech" / f"{number}.wav", 0.2 * loud * buzz, 16000)
    assert len(list(make_corpus(root / "speech", root / "corpus", speakers=1))) == 8
    return root / "corpus"


def test_train_and_name(corpus, tmp_path, capsys):
    steps = ["loop.steps=6", "loop.checkpoint_every=3", "loop.batch_size=16", "channels=16", "width=8"]
    given = [CONFIG, f"data.folder={corpus}", "data.stride=2", "label=tiny", f"loop.output={tmp_path / 'run'}", *steps]
    assert main(given) == 0
    shown = capsys.readouterr().out
    extractor = GestureFeatures.from_pretrained(tmp_path / "run" / "best" / "extractor")
    assert extractor.name.startswith("tiny-") and f"FGD({extractor.name})" in shown
    windows = np.random.default_rng(0).normal(size=(5, FRAMES, WIDTH))
    assert extractor.features(windows).shape == (5, 8)
    assert float(extractor.deviation.min()) >= 0.02 - 1e-6  # a constant channel is not blown up


def test_a_corpus_is_needed(tmp_path, capsys):
    assert main([CONFIG]) == 2
    assert "data.folder is not set" in capsys.readouterr().err
