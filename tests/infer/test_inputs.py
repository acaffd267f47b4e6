"""Choices that commands make from their arguments."""

import json

import pytest

from avatar import shipped
from infer import inputs
from infer.inputs import chosen_gestures, chosen_model, model_files


@pytest.mark.parametrize(
    ("given", "fps", "ships", "meant"),
    [
        (None, 25.0, "pipeline", "shipped:default"),
        (None, 25.0, None, None),
        (None, 30.0, "pipeline", None),
        (None, 30.0, "LayerChooser", "shipped:default"),
        ("none", 25.0, "pipeline", None),
        ("folder", 30.0, "pipeline", "folder"),
    ],
)
def test_the_model_that_ships_is_used_where_none_is_named(given, fps, ships, meant, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    if ships:
        (tmp_path / "default").mkdir()
        (tmp_path / "default" / "config.json").write_text(json.dumps({"_class_name": ships}))
    assert chosen_model(given, fps) == meant


@pytest.mark.parametrize(
    ("given", "led", "ships", "reader", "meant"),
    [
        (None, False, True, True, "default"),
        (None, True, True, True, None),
        (None, False, False, True, None),
        (None, False, True, False, None),
        ("none", False, True, True, None),
        ("folder", False, True, True, "folder"),
        ("folder", True, False, False, "folder"),
    ],
)
def test_the_gestures_that_ship_are_used_where_nothing_else_moves(
    given, led, ships, reader, meant, tmp_path, monkeypatch
):
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    monkeypatch.setattr(inputs, "GESTURES", tmp_path / "default")
    for name in ["default"] * ships + ["audio"] * reader:
        (tmp_path / name).mkdir()
    assert chosen_gestures(given, led) == (str(tmp_path / "default") if meant == "default" else meant)


def test_every_file_of_a_model_counts(tmp_path):
    (tmp_path / "unet").mkdir()
    for name in ("b.json", "unet/a.safetensors"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in model_files(str(tmp_path))] == ["b.json", "a.safetensors"]
    assert model_files(None) == model_files("some/hub-id") == []
    assert model_files(str(tmp_path / "b.json")) == [tmp_path / "b.json"]
