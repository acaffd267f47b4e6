"""The command with a layer chooser in place of a video model that paints."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import soundfile
import torch

from avatar.layer_choice import LAYERS
from avatar.models.layer_chooser import LayerChooser
from infer.inputs import chosen_chooser
from infer.run import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"channels": (8, 8, 16, 16)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A second of speech, a chooser that keeps the prior and one that shows the background where that is in doubt."""
    folder = tmp_path_factory.mktemp("choosers")
    speech, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    soundfile.write(folder / "speech.wav", speech[: int(1.2 * rate)], rate)
    LayerChooser(**SMALL).save_pretrained(folder / "keeps")
    other = LayerChooser(**SMALL)
    bias = torch.full((len(LAYERS),), 5.0)
    bias[LAYERS.index("background")] = -5.0
    with torch.no_grad():
        other.conv_out.bias.copy_(bias.repeat_interleave(4))
    other.save_pretrained(folder / "background")
    return folder


def run(folder, model, *more):
    presenter = ROOT / "examples" / "presenter.png"
    arguments = ["--image", presenter, "--audio", folder / "speech.wav", "--size", 192, "--fps", 10]
    named = () if model is None else ("--model", model)
    return main([str(argument) for argument in (*arguments, "--gesture-model", "none", *named, *more)])


@pytest.fixture(scope="module")
def frames(folder, tmp_path_factory):
    """What the prior alone, each chooser and what ships make of the presenter, (F, H, W, 3)."""
    out = tmp_path_factory.mktemp("frames")
    made = {}
    for name, model in (
        ("none", "none"),
        ("keeps", folder / "keeps"),
        ("background", folder / "background"),
        ("ships", None),
    ):
        assert run(folder, model, "--output", out / name) == 0
        paths = sorted((out / name).glob("*.png"))
        made[name] = np.stack([imageio.imread(path) for path in paths]).astype(int)
    return made


def test_it_changes_what_it_says_and_nothing_else(frames):
    assert len(frames["none"]) == 12
    assert np.abs(frames["keeps"] - frames["none"]).max() <= 1
    changed = np.abs(frames["background"] - frames["none"]).max(-1)
    assert changed[0].max() == 0  # the photo itself
    assert changed.max() > 30 and 0 < (changed > 3).mean() < 0.3


def test_what_ships_mends_a_little_and_leaves_the_head_alone(frames):
    changed = np.abs(frames["ships"] - frames["none"]).max(-1)
    assert changed[0].max() == 0 and changed.max() > 10 and (changed > 3).mean() < 0.05
    assert (changed[:, 32:68, 82:114] > 3).mean() < 0.002  # eyes, nose and mouth


def test_settings_of_painting_are_refused(folder, tmp_path, capsys):
    assert run(folder, folder / "keeps", "--output", tmp_path / "x.mp4", "--steps", 2) == 2
    error = capsys.readouterr().err.strip()
    assert "--steps belongs to a video model that paints" in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_a_measured_model_must_be_a_chooser(folder, tmp_path):
    assert chosen_chooser("none") is None and chosen_chooser(str(folder / "keeps")) == str(folder / "keeps")
    with pytest.raises(ValueError, match="is no layer chooser"):
        chosen_chooser(str(tmp_path))
