"""The layer chooser's trainer as a user runs it: samples of small clips, a run, the same run again."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avatar.build import load_video_model
from avatar.layer_choice import MIRRORED, MIRRORED_BONES
from avatar.models.layer_chooser import LayerChooser
from train import layer_samples
from train.config import load_config
from train.layer_choice import LayerChoiceConfig, LayerSamples, SampleData, build_chooser, main

CONFIG = "configs/layer_choice.yaml"
SMALL = [
    "chooser.channels=[8,8,16,16]", "data.crop=64", "loop.batch_size=4", "loop.learning_rate=0.02",
    "loop.checkpoint_every=20", "loop.log_every=10", "loop.validation_batches=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def samples(write_synthetic, tmp_path_factory):
    """A folder of samples of four small clips, one of them for validation; and the clips."""
    folder = tmp_path_factory.mktemp("samples")
    data = write_synthetic(tmp_path_factory.mktemp("clips") / "data")
    assert layer_samples.main([str(folder), str(data), "--photos", "2", "--frames", "3"]) == 0
    return folder, data


def taught(folder, count, seed):
    """Samples in which the trunk is right wherever the prior, which is grey there, is in doubt."""
    random = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randint(0, 256, (count, *shape), generator=random, dtype=torch.uint8)

    truth, doubt = noise(3, 96, 96), torch.zeros(count, 1, 96, 96, dtype=torch.uint8)
    doubt[:, :, 24:72] = 255
    colours = noise(7, 3, 96, 96)
    colours[:, 0] = torch.where(doubt > 0, 128, truth)
    colours[:, 2] = truth
    folder.mkdir(parents=True, exist_ok=True)
    rest = {"coverage": noise(6, 96, 96), "sure": noise(6, 96, 96), "bones": noise(9, 48, 48)}
    save_file({"colours": colours, "doubt": doubt, "truth": truth, **rest}, folder / "made.safetensors")


def test_samples_hold_the_candidates_and_the_truth(samples, capsys):
    folder, data = samples
    files = sorted(folder.rglob("*.safetensors"))
    assert [path.parent.name for path in files] == ["train"] * 3 + ["val"]
    item = load_file(files[0])
    assert {name: tuple(part.shape[1:]) for name, part in item.items()} == {
        "colours": (7, 3, 256, 256), "coverage": (6, 256, 256), "sure": (6, 256, 256), "doubt": (1, 256, 256),
        "bones": (9, 128, 128), "truth": (3, 256, 256),
    }  # fmt: skip
    assert all(part.dtype == torch.uint8 for part in item.values()) and 4 <= len(item["truth"]) <= 6
    before = {path: path.stat().st_mtime_ns for path in files}
    assert layer_samples.main([str(folder), str(data), "--photos", "2", "--frames", "3"]) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before  # what is there is not made again
    assert layer_samples.main([str(folder), str(data), "--part", "2/2"]) == 2
    assert "--part must be K/N" in capsys.readouterr().err


def test_crops_belong_together_also_when_mirrored(tmp_path):
    columns, layers, bones = torch.arange(96), torch.arange(6)[:, None, None], torch.arange(9)[:, None, None]
    rows = columns[:, None]
    told = {
        "colours": (rows + 0 * columns).expand(7, 3, 96, 96), "truth": (rows + 0 * columns).expand(3, 96, 96),
        "coverage": columns + 0 * rows + 10 * layers, "sure": columns + 0 * rows + 10 * layers,
        "doubt": (columns + 0 * rows)[None], "bones": 2 * (columns + 0 * rows)[:48, :48] + bones,
    }  # fmt: skip
    (tmp_path / "train").mkdir()
    save_file({k: v[None].byte().contiguous() for k, v in told.items()}, tmp_path / "train" / "told.safetensors")
    data = LayerSamples(SampleData(str(tmp_path), crop=64, zoom=1.0, gain=(1.0, 1.0), offset=0.0), "train")
    seen = set()
    for seed in range(12):
        item = {name: (part * 255).round() for name, part in data.draw(0, np.random.default_rng(seed)).items()}
        y, x = int(item["truth"][0, 0, 0]), int(item["doubt"].min())
        mirrored = bool(item["doubt"][0, 0, 0] > item["doubt"][0, 0, -1])
        along = x + (torch.arange(63, -1, -1) if mirrored else torch.arange(64)).float()
        assert torch.equal(item["doubt"][0], along.expand(64, 64))
        assert torch.equal(item["colours"], (y + torch.arange(64.0))[:, None].expand(7, 3, 64, 64))
        order = torch.tensor(MIRRORED if mirrored else range(6))[:, None, None]
        assert torch.equal(item["coverage"], (along + 10 * order).expand(6, 64, 64))
        order = torch.tensor(MIRRORED_BONES if mirrored else range(9))[:, None, None]
        at = along[1::2] if mirrored else along[::2]
        assert torch.equal(item["bones"], (at + order).expand(9, 32, 32))
        seen.add((mirrored, y, x))
    assert len(seen) > 6 and {mirrored for mirrored, _, _ in seen} == {False, True}


def test_crops_come_nearer_and_farther_together(tmp_path):
    """With a ramp from left to right in everything: its slope tells the zoom, and is the same in all parts."""
    ramp = (2 * torch.arange(96)).expand(96, 96).byte()
    told = {
        "colours": ramp.expand(7, 3, 96, 96), "truth": ramp.expand(3, 96, 96), "coverage": ramp.expand(6, 96, 96),
        "sure": ramp.expand(6, 96, 96), "doubt": ramp[None], "bones": ramp[::2, ::2].expand(9, 48, 48),
    }  # fmt: skip
    (tmp_path / "train").mkdir()
    save_file({name: part[None].contiguous() for name, part in told.items()}, tmp_path / "train" / "told.safetensors")
    data = LayerSamples(SampleData(str(tmp_path), crop=64, zoom=1.5, gain=(1.0, 1.0), offset=0.0), "train")
    slopes = []
    for seed in range(12):
        item = data.draw(0, np.random.default_rng(seed))
        wide = {name: float((part[..., 0, -4] - part[..., 0, 3]).abs().max()) * 255 for name, part in item.items()}
        whole = [value for name, value in wide.items() if name != "bones"]
        assert max(whole) - min(whole) < 1
        assert wide["bones"] * 57 / 25 == pytest.approx(2 * whole[0], abs=6)
        slopes.append(whole[0] / 57 / 2)
    assert min(slopes) < 0.8 and 1.2 < max(slopes) < 1.52


def test_it_learns_which_layer_is_right_and_goes_on(tmp_path, capsys):
    for split, seed in (("train", 0), ("val", 1)):
        taught(tmp_path / "data" / split, 12, seed)
    eager = ["chooser.margin=0.1", "chooser.temperature=0.1"]  # shows what is learned in a few steps
    given = [CONFIG, f"data.folder={tmp_path / 'data'}", f"loop.output={tmp_path / 'run'}", *SMALL, *eager]
    assert main([*given, "loop.steps=40"]) == 0
    first = (tmp_path / "run" / "last" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert main([*given, "loop.steps=40"]) == 0
    assert "resuming at step 40" in capsys.readouterr().out
    assert (tmp_path / "run" / "last" / "diffusion_pytorch_model.safetensors").read_bytes() == first
    lines = [json.loads(line) for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    left = [line["validation/left"] for line in lines if "validation/left" in line]
    assert left[0] > 0.8 and left[-1] < 0.6 * left[0]
    assert isinstance(load_video_model(tmp_path / "run" / "best"), LayerChooser)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.folder=''", "data.folder is not set"),
        ("data.crop=48", "multiple of 32"),
        ("data.folder=nowhere", "no samples of the split train"),
        ("chooser.width=3", "arguments of LayerChooser"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(samples, tmp_path, capsys, change, said):
    given = [CONFIG, f"data.folder={samples[0]}", f"loop.output={tmp_path}", *SMALL, change]
    assert main(given) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_a_broken_sample_is_named(samples, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="a.safetensors cannot be read"):
        LayerSamples(SampleData(str(tmp_path)), "train")


def test_a_run_can_begin_with_a_chooser(tmp_path):
    torch.manual_seed(5)
    LayerChooser(channels=(8, 8, 16, 16)).save_pretrained(tmp_path)
    config = load_config(LayerChoiceConfig, CONFIG, ["data.folder=x", f"start={tmp_path}"])
    assert build_chooser(config).config.channels == [8, 8, 16, 16]
