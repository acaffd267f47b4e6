"""Fine-tuning by adapters: they learn, the base does not, and what is saved computes what was trained."""

import json
from pathlib import Path

import pytest
import torch
from prepared_clips import write_synthetic
from safetensors.torch import load_file

from avatar.build import load_pipeline
from train.avatar_training import main
from train.lora import LoraConfig, LoraTask, load_adapters

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "configs" / "model_tiny.yaml"


def base():
    torch.manual_seed(0)
    return load_pipeline(BASE)


def output(unet):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        sample = torch.randn(1, unet.config.in_channels, 4, 8, 8, generator=generator)
        return unet(sample, torch.tensor([300])).sample


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of the base, folder of the run): four steps on a made-up person."""
    root = tmp_path_factory.mktemp("person")
    base().save_pretrained(root / "base")
    data = write_synthetic(root / "data", clips=4, latent_channels=4, audio=(2, 4, 64))
    config = str(ROOT / "configs" / "finetune_person.yaml")
    given = [config, "preset=tiny", f"model={root / 'base'}", f"data.folders=[{data}]", f"loop.output={root / 'run'}"]
    assert main([*given, "loop.steps=4"]) == 0
    return root / "base", root / "run"


def test_adapters_learn_and_the_base_is_kept(trained):
    before, after = load_pipeline(trained[0]), load_pipeline(trained[1] / "last")
    changed = {n for n, p in after.unet.state_dict().items() if not torch.equal(p, before.unet.state_dict()[n])}
    settings = json.loads((trained[1] / "last" / "adapter" / "adapter.json").read_text())
    assert changed and {name.removesuffix(".weight") for name in changed} <= set(settings["layers"])
    for part in ("reference_net", "pose_encoder", "audio_encoder", "identity_encoder", "vae"):
        ours, theirs = (getattr(pipeline, part).state_dict() for pipeline in (before, after))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    weights = load_file(trained[1] / "last" / "adapter" / "adapter.safetensors")
    assert all("lora_" in name for name in weights)
    assert sum(w.numel() for w in weights.values()) < 0.2 * sum(p.numel() for p in before.unet.parameters())


def test_fused_weights_equal_the_adapters(trained):
    pipeline, fused = load_pipeline(trained[0]), load_pipeline(trained[1] / "last")
    plain = output(pipeline.unet)
    load_adapters(pipeline.unet, trained[1] / "last" / "adapter")
    torch.testing.assert_close(output(pipeline.unet), output(fused.unet), atol=1e-5, rtol=1e-4)
    assert float((output(fused.unet) - plain).abs().max()) > 1e-4
    assert set(fused.unet.state_dict()) == set(load_pipeline(trained[0]).unet.state_dict())


def test_new_adapters_change_nothing_and_alone_are_trained():
    pipeline = base()
    before = output(pipeline.unet)
    task = LoraTask(LoraConfig(rank=2), pipeline, 2, ("basic",))
    assert torch.equal(output(pipeline.unet), before)
    learning = [name for name, parameter in task.named_parameters() if parameter.requires_grad]
    assert learning and all(".lora_" in name for name in learning)
    assert not any("attn2" in name or "motion_modules" in name or "region_layers" in name for name in learning)


def test_adapters_of_another_model_are_refused(trained, tmp_path):
    adapter = trained[1] / "last" / "adapter"
    settings = json.loads((adapter / "adapter.json").read_text())
    (tmp_path / "adapter.safetensors").write_bytes((adapter / "adapter.safetensors").read_bytes())
    (tmp_path / "adapter.json").write_text(json.dumps({**settings, "layers": ["nowhere.to_q"]}))
    with pytest.raises(ValueError, match="of another model"):
        load_adapters(base().unet, tmp_path)
    (tmp_path / "adapter.json").write_text(json.dumps({**settings, "rank": 3}))
    with pytest.raises(ValueError, match="do not fit"):
        load_adapters(base().unet, tmp_path)
    with pytest.raises(ValueError, match="no adapters in"):
        load_adapters(base().unet, tmp_path / "nowhere")


def test_rank_is_checked():
    with pytest.raises(ValueError, match="rank >= 0"):
        LoraConfig(rank=-1)
