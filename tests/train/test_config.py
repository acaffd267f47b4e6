"""Experiment files: every one in configs/ loads; what does not fit is named."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from train.codec import CodecConfig
from train.config import LoopConfig, differences, load_config, save_config
from train.gesture import GestureConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PRESETS = {"diffuse_style": ("plus", "small"), "diff_gesture": ("expressive", "small"), "fine_gesture": ("small",),
           "holistic": ("small",)}  # fmt: skip


@dataclass(frozen=True)
class Inner:
    size: int = 3
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outer:
    rate: float = 0.1
    title: str | None = None
    on: bool = False
    inner: Inner = field(default_factory=Inner)
    options: dict[str, object] = field(default_factory=dict)


def write(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


def test_changes_and_presets(tmp_path):
    path = write(tmp_path / "a.yaml", {"rate": 1, "presets": {"small": {"inner": {"size": 1}, "options": {"a": 1}}}})
    config = load_config(Outer, path, ["preset=small", "rate=1e-4", "inner.names=[2, b]", "options.b=x", "on=true"])
    assert config == Outer(1e-4, None, True, Inner(1, ("2", "b")), {"a": 1, "b": "x"})
    save_config(tmp_path / "b.yaml", config)
    assert load_config(Outer, tmp_path / "b.yaml") == config


@pytest.mark.parametrize(
    "change,message",
    [
        ("rat=1", "unknown key rat; did you mean rate"),
        ("inner.sise=1", "did you mean inner.size"),
        ("inner.size=big", "inner.size must be int, got 'big'"),
        ("inner.size=true", "inner.size must be int"),
        ("rate=fast", "rate must be float"),
        ("on=1", "on must be bool"),
        ("inner=3", "inner must be Inner"),
        ("rate", "key=value"),
        ("preset=large", "it has small"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    path = write(tmp_path / "a.yaml", {"presets": {"small": {}}})
    with pytest.raises(ValueError, match=message):
        load_config(Outer, path, [change])


def test_a_bare_no_is_the_word(tmp_path):
    assert load_config(LoopConfig, write(tmp_path / "a.yaml", {}), ["precision=no"]).precision == "no"


def test_differences():
    assert differences({"a": 1, "b": {"c": 2, "d": [1]}}, {"a": 1, "b": {"c": 3, "d": (1,)}, "e": 0}) == ["b.c", "e"]


def test_missing_file_and_bad_values(tmp_path):
    with pytest.raises(ValueError, match="no experiment file"):
        load_config(Outer, tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match="not YAML"):
        load_config(Outer, tmp_path / "bad.yaml")
    with pytest.raises(ValueError, match="at least 1"):
        LoopConfig(steps=0)


@pytest.mark.parametrize("system", PRESETS)
def test_every_file_and_preset_loads(system):
    path = CONFIGS / f"gesture_{system}.yaml"
    changes = ["data.folder=somewhere"] + ["codec=somewhere"] * (system == "fine_gesture")
    for preset in ("", *PRESETS[system]):
        config = load_config(GestureConfig, path, [f"preset={preset}"] * bool(preset) + changes)
        assert config.system == system and config.small == (preset == "small")
    with pytest.raises(ValueError, match="data.folder is not set"):
        load_config(GestureConfig, path, changes[1:])


def test_default_gesture_experiment_loads():
    config = load_config(GestureConfig, CONFIGS / "gesture_default.yaml", ["data.folder=somewhere"])
    assert (config.system, config.small, config.data.feature_set) == ("holistic", True, "acoustic_mouth")


def test_codec_file_loads():
    for changes in ([], ["preset=small"]):
        assert load_config(CodecConfig, CONFIGS / "gesture_codec.yaml", [*changes, "data.folder=x"]).frames == 34


def test_descriptions_of_models_are_found_from_any_directory(tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Described:
        model: str
        other: str = ""

    (tmp_path / "configs").mkdir()
    described, other = tmp_path / "configs" / "model.yaml", "nowhere.yaml"
    described.write_text("unet: {}")
    file = tmp_path / "configs" / "run.yaml"
    file.write_text(f"model: a\nother: {other}\npresets: {{small: {{model: configs/model.yaml}}}}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(Described, "../configs/run.yaml", ["preset=small"]) == Described(str(described), other)
    monkeypatch.chdir(tmp_path)  # what is there from here is left as it is written
    assert load_config(Described, "configs/run.yaml", ["preset=small"]).model == "configs/model.yaml"
    given = load_config(Described, "configs/run.yaml", ["model=configs/none.yaml"])  # a user's own is the user's
    assert given.model == "configs/none.yaml"
