"""The reference net: Stable Diffusion's own features, gradients through it, the skeleton of the photo, bad input."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from avatar.models.reference import ReferenceNet

TEXT_DIM = 20


@pytest.fixture
def net(make_unet) -> ReferenceNet:
    return ReferenceNet.matching(make_unet()).eval()


def test_tokens_are_the_inputs_of_stable_diffusions_self_attention(net):
    """At timestep 0, layer by layer, of diffusers' own U-Net with the same weights."""
    fields = {name: value for name, value in net.config.items() if not name.startswith("_")}
    net = ReferenceNet(**(fields | {"cross_attention_dim": TEXT_DIM})).eval()
    names = UNet2DConditionModel.__init__.__wrapped__.__code__.co_varnames
    stock = UNet2DConditionModel(**{k: v for k, v in net.config.items() if k in names}, out_channels=4)
    stock.load_state_dict(net.state_dict())
    seen = {}
    for name, module in stock.eval().named_modules():
        if name.endswith("attn1"):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0]))
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, TEXT_DIM)
    with torch.no_grad():
        stock(latents, 0, text)
        tokens = net.encode(latents, encoder_hidden_states=text).tokens
    assert seen.keys() == tokens.keys()
    for name in seen:
        torch.testing.assert_close(tokens[name], seen[name])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_trained_layer(make_unet, sample, checkpointing):
    unet = make_unet().train()
    net = ReferenceNet.matching(unet).train()
    if checkpointing:
        unet.enable_gradient_checkpointing()
        net.enable_gradient_checkpointing()
    before = net.encode(torch.randn(4, 4, 8, 8))
    reference = net.encode(torch.randn(2, 4, 8, 8))
    unet(sample, 5, reference=reference, motion=unet.motion_maps(before, 2)).sample.square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert net.conv_in.weight.grad.any()


@pytest.mark.parametrize("fine", ["CrossAttn", ""])  # with attention at the finest level, or without as in `default`
def test_without_motion_frames_the_end_is_frozen(fine, make_unet, sample):
    """Distributed training refuses parameters that get no gradient."""
    unet = make_unet(
        down_block_types=(f"{fine}DownBlockMotion", "CrossAttnDownBlockMotion"),
        up_block_types=("CrossAttnUpBlockMotion", f"{fine}UpBlockMotion"),
    )
    net = ReferenceNet.matching(unet)
    net.freeze_after_last_tokens()
    unet(sample, 5, reference=net.encode(torch.randn(2, 4, 8, 8))).sample.square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]


def test_the_photos_skeleton_enters_with_its_latents(net, pose_encoder, wake):
    latents, skeleton = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 1, 64, 64)
    with torch.no_grad():
        plain = net.encode(latents).maps[-1]
        assert torch.equal(net.encode(latents, pose_encoder(skeleton, "reference")).maps[-1], plain)
        wake(pose_encoder)
        assert (net.encode(latents, pose_encoder(skeleton, "reference")).maps[-1] - plain).abs().max() > 1e-4


def test_saved_net_loads_to_the_same_features(net, tmp_path):
    net.save_pretrained(tmp_path)
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        first, second = net.encode(latents), ReferenceNet.from_pretrained(tmp_path).eval().encode(latents)
    assert all(torch.equal(a, b) for a, b in zip(first.maps, second.maps, strict=True))


@pytest.mark.parametrize(
    "latents, pose, message",
    [
        ((1, 9, 8, 8), None, "expected \\(N, 4"),
        ((1, 4, 7, 8), None, "multiples of 2"),
        ((1, 4, 8, 8), (1, 16, 2, 8, 8), "one frame of the reference"),
    ],
)
def test_bad_input(net, latents, pose, message):
    with pytest.raises(ValueError, match=message):
        net.encode(torch.randn(latents), None if pose is None else torch.randn(pose))


def test_text_where_there_is_none(net):
    with pytest.raises(ValueError, match="leave encoder_hidden_states out"):
        net.encode(torch.randn(1, 4, 8, 8), encoder_hidden_states=torch.zeros(1, 1, TEXT_DIM))


def test_slicing_and_xformers_are_refused(net):
    for call in (lambda: net.set_attention_slice(2), net.enable_xformers_memory_efficient_attention):
        with pytest.raises(ValueError, match="backend"):
            call()
