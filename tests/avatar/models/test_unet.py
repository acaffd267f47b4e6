"""What the denoising U-Net computes: equal to its parent at the start, causes that reach their effects."""

import pytest
import torch
from diffusers import UNetMotionModel

from avatar.models.reference import ReferenceFeatures
from avatar.models.unet import AvatarUNet

TEXT_DIM = 20


def parent_of(unet: AvatarUNet) -> UNetMotionModel:
    """Diffusers' own model with the same config and the weights it shares by name."""
    names = UNetMotionModel.__init__.__wrapped__.__code__.co_varnames
    parent = UNetMotionModel(**{name: value for name, value in unet.config.items() if name in names}).eval()
    ours = unet.state_dict()
    parent.load_state_dict({name: ours[name] for name in parent.state_dict()})
    return parent


@pytest.mark.parametrize("streams_on", [False, True])
def test_equals_parent_bit_for_bit_at_start(make_unet, streams, sample, pose_encoder, streams_on):
    unet = make_unet(cross_attention_dim=TEXT_DIM)
    text = torch.randn(len(sample), 5, TEXT_DIM)
    on = {}
    if streams_on:
        on = streams(unet)
        del on["reference"], on["motion"]  # no zero projection: without them there is nothing to attend to
        on["pose"] = pose_encoder(torch.rand(len(sample), 3, sample.shape[2], 64, 64), "body")
    with torch.no_grad():
        ours = unet(sample, 500, text, **on).sample
        theirs = parent_of(unet)(sample, 500, text.repeat_interleave(sample.shape[2], dim=0)).sample
    assert torch.equal(ours, theirs)


def test_audio_of_a_model_without_text_starts_at_zero(make_unet, streams, sample):
    unet = make_unet()
    audio = streams(unet)["audio"]
    with torch.no_grad():
        assert torch.equal(unet(sample, 5).sample, unet(sample, 5, audio=audio).sample)


@pytest.mark.parametrize("text_dim", [None, TEXT_DIM])
def test_no_audio_is_audio_of_zeros(make_unet, streams, sample, wake, text_dim):
    unet = wake(make_unet(cross_attention_dim=text_dim))
    audio = streams(unet)["audio"]
    text = None if text_dim is None else torch.randn(len(sample), 5, text_dim)
    with torch.no_grad():
        silent, zeros, heard = (unet(sample, 5, text, audio=x).sample for x in (None, torch.zeros_like(audio), audio))
    torch.testing.assert_close(silent, zeros)
    assert (heard - silent).abs().max() > 1e-3


def test_dropped_reference_is_no_reference_clip_by_clip(make_unet, streams, sample):
    unet = make_unet()
    reference = streams(unet)["reference"]
    keep = torch.tensor([True, False])
    with torch.no_grad():
        mixed = unet(sample, 5, reference=reference, keep_reference=keep).sample
        with_reference = unet(sample, 5, reference=reference).sample
        without = unet(sample, 5).sample
    torch.testing.assert_close(mixed[0], with_reference[0], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(mixed[1], without[1], atol=2e-6, rtol=1e-5)
    assert (with_reference - without).abs().max() > 1e-3


def test_one_reference_serves_all_clips_and_is_projected_once(make_unet, streams, sample):
    unet = make_unet()
    one = streams(unet)["reference"]
    one = ReferenceFeatures({layer: tokens[:1] for layer, tokens in one.tokens.items()}, one.maps)
    twice = ReferenceFeatures({layer: tokens.expand(2, -1, -1) for layer, tokens in one.tokens.items()}, one.maps)
    with torch.no_grad():
        projected = unet.project_reference(one)
        for attn in (unet.get_submodule(layer) for layer in one.tokens):
            attn.to_k.register_forward_hook(lambda *_: calls.append(1))
        calls: list[int] = []
        shared = unet(sample, 5, reference=projected).sample
        assert len(calls) == len(one.tokens)  # the frames' own keys; none for the reference
        torch.testing.assert_close(shared, unet(sample, 5, reference=twice).sample, atol=2e-6, rtol=1e-5)


def test_dropped_motion_frames_are_zero_maps(make_unet, streams, sample):
    unet = make_unet()
    motion = streams(unet)["motion"]
    with torch.no_grad():
        kept = unet(sample, 5, motion=motion).sample
        mixed = unet(sample, 5, motion=motion, keep_motion=torch.tensor([True, False])).sample
        zeros = unet(sample, 5, motion=[torch.zeros_like(x) for x in motion]).sample
    torch.testing.assert_close(mixed[0], kept[0], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(mixed[1], zeros[1], atol=2e-6, rtol=1e-5)
    assert (kept - zeros).abs().max() > 1e-3


def test_a_timestep_a_frame(make_unet, sample):
    unet = make_unet()
    one = torch.full((len(sample), sample.shape[2]), 500)
    other = one.clone()
    other[:, 0] = 0
    with torch.no_grad():
        torch.testing.assert_close(unet(sample, one).sample, unet(sample, 500).sample)
        moved = (unet(sample, other, temporal=False).sample - unet(sample, one, temporal=False).sample).abs()
    assert moved[:, :, 0].max() > 1e-3
    assert moved[:, :, 1:].max() == 0


def frame_influence(unet: AvatarUNet, sample, cause: torch.Tensor, **on) -> torch.Tensor:
    """[k, j]: gradient norm of frame j's output on frame k's part of `cause` (1, F, ...)."""
    out = unet(sample, 5, **on).sample
    rows = [torch.autograd.grad(out[:, :, j].square().sum(), cause, retain_graph=True)[0] for j in range(out.shape[2])]
    return torch.stack([row.flatten(2).norm(dim=-1).sum(dim=0) for row in rows], dim=1)


@pytest.mark.parametrize("cause", ["audio", "hand_clarity"])
def test_a_frames_condition_moves_that_frame_alone_without_temporal_layers(make_unet, streams, sample, wake, cause):
    unet = wake(make_unet())
    on = streams(unet)
    on[cause] = on[cause].nan_to_num().requires_grad_()
    alone = frame_influence(unet, sample, on[cause], temporal=False, **on)
    own = torch.eye(len(alone), dtype=torch.bool)
    assert (alone[own] > 1e-5).all()
    assert (alone[~own] == 0).all()
    together = frame_influence(unet, sample, on[cause], **on)
    assert (together > 0).all()


def test_hand_clarity_reaches_what_is_said_of_hands(make_unet, streams, sample, wake):
    unet = wake(make_unet())
    on = streams(unet)
    clarity = on["hand_clarity"].requires_grad_()
    out = unet(sample, 5, **on, temporal=False)
    for effect in (out.hand_heatmaps[-1], out.region_logits["hands"][-1]):
        (gradient,) = torch.autograd.grad(effect.square().sum(), clarity, retain_graph=True)
        absent = clarity.isnan()
        assert (gradient[absent] == 0).all()  # an absent hand has no clarity to move anything with
        assert (gradient[~absent].abs() > 0).all()


def test_face_codebook_moves_the_face(make_unet, sample, wake):
    """With its mask head trained on a box, the last module's codes change the picture mostly inside the box.

    Mostly: the last group norm carries a little of it everywhere, the last convolution one pixel over the border.
    """
    unet = wake(make_unet(region_levels=(0,)))
    identity = {"face": torch.randn(len(sample), 4, unet.config.identity_dim)}
    box = torch.zeros(1, 1, 1, *sample.shape[-2:])
    box[..., 1:5, 2:6] = 1
    last = unet.region_layers["up_blocks_1_1"]["face"]
    heads = [p for name, p in last.named_parameters() if name.startswith("mask_")]
    # a first layer that tells inside from outside, as a trained U-Net's does
    shown = sample + 3 * box
    optimiser = torch.optim.Adam(heads, lr=0.05)
    for _ in range(40):
        logits = unet(shown, 5, identity=identity, temporal=False).region_logits["face"][-1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, box.expand_as(logits))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        before = unet(shown, 5, identity=identity, temporal=False).sample
        last.spatial.codes.copy_(last.spatial.codes.flip(1))
        change = (unet(shown, 5, identity=identity, temporal=False).sample - before).square()
    inside = (change * box).sum() / box.sum()
    away = 1 - torch.nn.functional.max_pool2d(box[0], kernel_size=3, stride=1, padding=1)[None]
    assert inside > 10 * (change * away).sum() / away.sum()


def test_region_outputs_have_frames_and_sizes_of_their_layers(make_unet, streams, sample):
    unet = make_unet()
    with torch.no_grad():
        out = unet(sample, 5, **streams(unet))
        trained = unet(sample, 5, **streams(unet), heatmaps=True)
    assert out.hand_heatmaps == []  # only training compares them
    shapes = [(2, 1, 3, 8, 8), (2, 1, 3, 4, 4), (2, 1, 3, 4, 4), (2, 1, 3, 8, 8)]
    assert [tuple(x.shape) for x in out.region_logits["face"]] == shapes
    assert [tuple(x.shape) for x in trained.hand_heatmaps] == [(b, 42, *rest) for b, _, *rest in shapes]


@pytest.mark.parametrize("mid", [True, False])
@pytest.mark.parametrize("types", [("CrossAttnDownBlockMotion",) * 2, ("DownBlockMotion", "CrossAttnDownBlockMotion")])
def test_reference_net_matches_any_layout(make_unet, streams, sample, mid, types):
    ups = tuple(name.replace("Down", "Up") for name in reversed(types))
    unet = make_unet(down_block_types=types, up_block_types=ups, use_motion_mid_block=mid)
    on = streams(unet)
    assert len(on["motion"]) == unet.num_motion_modules
    assert on["reference"].tokens.keys() == {
        name.removesuffix(".processor")
        for name in unet.attn_processors
        if "attn1" in name and "motion_modules" not in name
    }
    with torch.no_grad():
        assert unet(sample, 5, **on).sample.shape == (2, 4, 3, 8, 8)


def test_single_frames_need_no_motion_modules(make_unet, streams, sample):
    """Training stage 1: every frame by itself is what `temporal=False` makes of it in a clip."""
    unet = make_unet()
    on = {name: x for name, x in streams(unet).items() if name not in ("motion", "hand_clarity")}
    single = {name: x[:, :1] for name, x in on.items() if name == "audio"} | {"pose": on["pose"][:, :, :1]}
    shared = {name: on[name] for name in ("reference", "identity")}
    with torch.no_grad():
        clip = unet(sample, 5, **on, temporal=False).sample
        one = unet(sample[:, :, :1], 5, **single, **shared, temporal=False).sample
    torch.testing.assert_close(one, clip[:, :, :1], atol=1e-5, rtol=1e-4)


def test_a_new_model_that_adds_to_the_prior_is_the_prior(make_unet):
    unet = make_unet(in_channels=9, prior_residual=True)
    shown = torch.randn(1, 9, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unet(shown, 999).sample, shown[:, 5:], atol=0, rtol=0)
    torch.nn.init.constant_(unet.conv_out.bias, 0.5)
    torch.testing.assert_close(unet(shown, 999).sample, shown[:, 5:] + 0.5)


def test_a_new_model_that_adds_to_the_prior_does_not_hear_its_noise(make_unet):
    unet = make_unet(in_channels=9, prior_residual=True)
    torch.nn.init.normal_(unet.conv_out.weight)
    shown = torch.randn(1, 9, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    noisier = shown.clone()
    noisier[:, :4] += 3
    torch.testing.assert_close(unet(noisier, 999).sample, unet(shown, 999).sample, atol=0, rtol=0)
