"""What ships is the checkpoint at half the size, and says nothing of where it was made."""

import json
from pathlib import Path

import pytest
import torch

from avatar.build import load_pipeline, load_video_model
from avatar.models.layer_chooser import LayerChooser
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.pipeline import GesturePipeline
from pose.representations.joints import JointVectors
from pose.sampling import scheduler_for
from train.save_small import main

ROOT = Path(__file__).parents[2]


def made(**choices) -> GesturePipeline:
    torch.manual_seed(0)
    vectors = JointVectors(15.0, ("Spine", "LeftArm", "RightArm"))
    vectors.mean.uniform_(-100, 100)
    size = {"width": 32, "speech_width": 8, "layers": 1, "heads": 2, "local_heads": 2, "feedforward": 32}
    model = DiffuseStyleGesture(vectors.dim, 109, 2, 16, 4, style_width=8, **size)
    return GesturePipeline(model, scheduler_for("dpm++", model), vectors, styles=["calm", "lively"], **choices)


def test_half_precision_and_back(tmp_path, capsys):
    source, folder = made(default_style="lively", own_eyes=False), tmp_path / "small"
    source.save_pretrained(tmp_path / "big")
    assert main([str(tmp_path / "big"), str(folder)]) == 0
    assert "MB" in capsys.readouterr().out
    for path in folder.rglob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text()) and str(tmp_path) not in path.read_text()
    loaded = GesturePipeline.from_pretrained(folder)
    assert loaded.config.default_style == "lively" and not loaded.config.own_eyes
    assert torch.equal(loaded.representation.mean, source.representation.mean)
    for name, weight in source.model.state_dict().items():
        other = loaded.model.state_dict()[name]
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, weight, atol=1e-3, rtol=1e-3)


def test_a_video_model_too(tmp_path, capsys):
    torch.manual_seed(0)
    source = load_pipeline(ROOT / "configs" / "model_tiny.yaml")
    source.save_pretrained(tmp_path / "big")
    assert main([str(tmp_path / "big"), str(tmp_path / "small")]) == 0
    size = [sum(p.stat().st_size for p in (tmp_path / name).rglob("*.safetensors")) for name in ("big", "small")]
    assert 0.45 < size[1] / size[0] < 0.55
    assert all(str(tmp_path) not in path.read_text() for path in (tmp_path / "small").rglob("*.json"))
    loaded = load_pipeline(tmp_path / "small")
    assert dict(loaded.config)["steps"] == source.config.steps
    for name, weight in source.unet.state_dict().items():
        torch.testing.assert_close(loaded.unet.state_dict()[name], weight, atol=1e-3, rtol=1e-3)


def test_a_layer_chooser_too(tmp_path):
    torch.manual_seed(0)
    source = LayerChooser(channels=(8, 8, 16, 16))
    torch.nn.init.normal_(source.conv_out.weight)
    source.save_pretrained(tmp_path / "big")
    assert main([str(tmp_path / "big"), str(tmp_path / "small")]) == 0
    size = [sum(p.stat().st_size for p in (tmp_path / name).rglob("*.safetensors")) for name in ("big", "small")]
    assert 0.45 < size[1] / size[0] < 0.6
    loaded = load_video_model(tmp_path / "small")
    for name, weight in source.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], weight, atol=1e-3, rtol=1e-3)


def test_what_is_no_gesture_model_and_a_style_that_it_does_not_know_are_refused(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "small")]) == 2
    assert "no gesture pipeline" in capsys.readouterr().err
    with pytest.raises(ValueError, match="default_style must be one of calm, lively, got 'merry'"):
        made(default_style="merry")
