"""Conversion from and to Stable Diffusion and AnimateDiff, on small random checkpoints in the published formats."""

import json

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import load_file, save_file

from avatar.models.convert import export_stable_diffusion, from_stable_diffusion, read_weights

FIELDS = {
    "audio_dim": 24,
    "identity_dim": 24,
    "region_levels": (0,),
    "region_codes": 8,
    "region_temporal_codes": 8,
    "region_head_channels": 8,
}


def stable_diffusion(in_channels: int = 4) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's layout with two small levels."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=20,
        attention_head_dim=4,
    )


@pytest.fixture
def folders(tmp_path):
    """A pipeline's folder and an adapter's, saved as on the hub."""
    stable_diffusion().save_pretrained(tmp_path / "sd" / "unet")
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_norm_num_groups=8,
        motion_num_attention_heads=2,
        motion_max_seq_length=24,
        use_motion_mid_block=True,
    )
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.1)  # AnimateDiff's start has zero output; a trained one has not
    adapter.save_pretrained(tmp_path / "motion")
    return tmp_path / "sd", tmp_path / "motion"


@pytest.mark.parametrize("prior", [False, True])
def test_with_text_it_computes_what_diffusers_does(folders, prior):
    sd, motion = folders
    unet = from_stable_diffusion(sd, motion, prior=prior, text=True, **FIELDS).unet.eval()
    stock = UNetMotionModel.from_unet2d(
        UNet2DConditionModel.from_pretrained(sd, subfolder="unet"), MotionAdapter.from_pretrained(motion)
    ).eval()
    sample, text = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 5, 20)
    shown = torch.cat([sample, torch.randn(2, 5, 3, 8, 8)], dim=1) if prior else sample  # the prior has no effect yet
    with torch.no_grad():
        expected = stock(sample, 7, text.repeat_interleave(3, dim=0)).sample
        identity = {"face": torch.randn(2, 4, 24)}
        result = unet(shown, 7, text, audio=torch.randn(2, 3, 4, 24), identity=identity).sample
    if prior:
        torch.testing.assert_close(result, expected)
    else:
        assert torch.equal(result, expected)
    assert unet.config.motion_max_seq_length == 24


@pytest.mark.parametrize("text", [False, True])
def test_every_tensor_is_accounted_for(folders, text):
    sd, motion = folders
    converted = from_stable_diffusion(sd, motion, text=text, **FIELDS)
    spatial, temporal = (set(read_weights(*source)[1]) for source in ((sd, "unet"), (motion,)))
    for model, report, source in (
        (converted.unet, converted.unet_report, spatial | temporal),
        (converted.reference_net, converted.reference_report, spatial),
    ):
        assert {*report.taken, *report.adapted, *report.refused} == source
        assert {*report.taken, *report.adapted, *report.new} == set(model.state_dict())
        assert len(report.taken) + len(report.adapted) + len(report.refused) == len(source)
    assert any("to_k_audio" in name for name in converted.unet_report.new) == text
    assert any("attn2.to_k" in name for name in converted.unet_report.refused) != text
    assert "conv_in.weight" in converted.unet_report.adapted
    assert "refused" in str(converted.unet_report)


def test_inpainting_weights_fill_the_priors_channels(tmp_path):
    source = stable_diffusion(in_channels=9)
    source.save_pretrained(tmp_path)
    converted = from_stable_diffusion(tmp_path, **FIELDS)
    assert torch.equal(converted.unet.conv_in.weight, source.conv_in.weight)
    assert torch.equal(converted.reference_net.conv_in.weight, source.conv_in.weight[:, :4])


def test_an_adapter_without_middle(folders, tmp_path):
    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_norm_num_groups=8, use_motion_mid_block=False
    )
    adapter.save_pretrained(tmp_path / "v3")
    unet = from_stable_diffusion(folders[0], tmp_path / "v3", **FIELDS).unet
    assert unet.num_motion_modules == 6
    unet(torch.randn(1, 9, 2, 8, 8), 5)


def test_export_gives_back_the_same_files(folders, tmp_path):
    sd, motion = folders
    unet = from_stable_diffusion(sd, motion, prior=False, text=True, **FIELDS).unet
    left = export_stable_diffusion(unet, tmp_path / "out")
    for before, after in ((sd / "unet", "unet"), (motion, "motion_adapter")):
        name = "diffusion_pytorch_model.safetensors"
        old, new = load_file(before / name), load_file(tmp_path / "out" / after / name)
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
        UNet2DConditionModel.load_config(tmp_path / "out" / after)
    assert left and all(
        any(part in name for part in (".processor.", "region_layers.", "clarity_embedding.")) for name in left
    )
    again = from_stable_diffusion(tmp_path / "out", tmp_path / "out", prior=False, text=True, **FIELDS).unet
    for name in set(unet.state_dict()) - set(left):
        assert torch.equal(again.state_dict()[name], unet.state_dict()[name])


def change_weights(folder, change):
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda sd, m: change_weights(sd / "unet", lambda t: t.pop("conv_out.bias")), "1 missing \\(conv_out.bias\\)"),
        (lambda sd, m: change_weights(sd / "unet", lambda t: t.update(x=torch.ones(1))), "1 foreign \\(x "),
        (
            lambda sd, m: change_weights(m, lambda t: t.update({k: v[..., :2].clone() for k, v in t.items()})),
            "its shape is",
        ),
        (lambda sd, m: change_config(sd / "unet", act_fn="gelu"), "'act_fn': 'gelu'"),
        (lambda sd, m: change_config(m, block_out_channels=[16, 64]), "does not belong to"),
        (lambda sd, m: (m / "config.json").unlink(), "has no config.json"),
        (lambda sd, m: (m / "diffusion_pytorch_model.safetensors").rename(m / "x.bin"), "only pickles \\(x.bin\\)"),
    ],
)
def test_what_does_not_fit_is_refused(folders, damage, message):
    damage(*folders)
    with pytest.raises(ValueError, match=message):
        from_stable_diffusion(*folders, **FIELDS)


def test_pickled_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a pickle"):
        from_stable_diffusion(tmp_path / "mm_sd_v15_v2.ckpt")
