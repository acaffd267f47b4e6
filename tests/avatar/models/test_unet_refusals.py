"""What the denoising U-Net refuses, and that it says why: switches, inputs, configs, weights."""

import pytest
import torch

from avatar.models.reference import ReferenceFeatures
from avatar.models.unet import AvatarUNet


@pytest.mark.parametrize(
    "call",
    [
        lambda unet: unet.enable_xformers_memory_efficient_attention(),
        lambda unet: unet.set_attention_slice("auto"),
        lambda unet: unet.fuse_qkv_projections(),
        lambda unet: unet.from_unet2d(None),
        lambda unet: unet.enable_group_offload(torch.device("cpu"), offload_type="block_level"),
    ],
)
def test_switches_that_would_drop_weights_are_refused(make_unet, call):
    unet = make_unet()
    names = set(unet.state_dict())
    with pytest.raises(ValueError, match="backend|leaf_level|from_stable_diffusion"):
        call(unet)
    assert set(unet.state_dict()) == names


def replace(name: str, change):
    def apply(sample, on):
        on[name] = change(on[name])
        return sample, on

    return apply


BAD_INPUTS = {
    "sample channels": (lambda sample, on: (sample[:, :4], on), "expected \\(B, 9, F"),
    "latent size": (lambda sample, on: (sample[..., :7], on), "multiples of 2"),
    "audio frames": (replace("audio", lambda x: x[:, :2]), "audio has the shape"),
    "audio width": (replace("audio", lambda x: x[..., :5]), "audio has the shape"),
    "pose": (replace("pose", lambda x: x[..., :4]), "pose has the shape"),
    "hand clarity": (replace("hand_clarity", lambda x: x[..., :1]), "hand_clarity has the shape"),
    "region": (replace("identity", lambda x: {"feet": x["face"]}), "'feet'"),
    "identity": (replace("identity", lambda x: {"face": x["face"][..., :3]}), "identity\\['face'\\]"),
    "motion count": (replace("motion", lambda x: x[1:]), "motion modules"),
    "motion frames": (replace("motion", lambda x: [m.repeat(1, 20, 1, 1, 1) for m in x]), "exceed the 32 positions"),
    "text": (lambda sample, on: (sample, on | {"encoder_hidden_states": torch.zeros(2, 1, 24)}), "leave"),
    "reference size": (
        replace("reference", lambda x: ReferenceFeatures(x.tokens, [m[..., :4] for m in x.maps])),
        "1 or 2 images of 8 x 8",
    ),
    "motion size": (replace("motion", lambda x: [m[..., :4] for m in x]), "motion\\[0\\] has the shape"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_say_what_was_got_and_expected(make_unet, streams, sample, case):
    unet = make_unet()
    change, message = BAD_INPUTS[case]
    sample, on = change(sample, streams(unet))
    with pytest.raises(ValueError, match=message):
        unet(sample, 5, **on)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 1, 1)])
def test_bad_timesteps(make_unet, sample, shape):
    with pytest.raises(ValueError, match="timestep has the shape"):
        make_unet()(sample, torch.zeros(shape))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"in_channels": 5}, "must be 4 .* or 9"),
        ({"regions": ("face", "feet")}, "feet"),
        ({"region_codes": 17}, "cannot be orthogonal in 16"),
    ],
)
def test_bad_configs(make_unet, changes, message):
    with pytest.raises(ValueError, match=message):
        make_unet(**changes)


def test_clarity_of_a_model_without_it(make_unet, sample):
    with pytest.raises(ValueError, match="hand_clarity=False"):
        make_unet(hand_clarity=False)(sample, 5, hand_clarity=torch.zeros(2, 3, 2))


def test_weights_that_do_not_fit_are_refused_by_name(make_unet, tmp_path):
    make_unet().save_pretrained(tmp_path / "other")
    unet = make_unet(region_levels=(0,))
    unet.save_pretrained(tmp_path / "ours")
    (tmp_path / "other" / "config.json").write_bytes((tmp_path / "ours" / "config.json").read_bytes())
    with pytest.raises(ValueError, match="foreign.*region_layers"):
        AvatarUNet.from_pretrained(tmp_path / "other")


def test_pickles_are_refused(make_unet, tmp_path):
    unet = make_unet()
    unet.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="Pickled weights"):
        AvatarUNet.from_pretrained(tmp_path)
