"""The prior's layers chosen anew: what the network sees, and that nothing changes but what is in doubt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_figure import driven, figure
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from avatar.build import load_pipeline, load_video_model
from avatar.layer_choice import (
    ARM_LAYERS,
    BEFORE_ARMS,
    HAND_MAPS,
    HAND_SPARED,
    HEAD_MAP,
    HEAD_SPARED,
    LAYERS,
    MIRRORED,
    MIRRORED_BONES,
    REACH,
    TRUNK,
    ChosenPrior,
    bone_maps,
    candidates,
    full_colours,
    held_back,
    working_size,
)
from avatar.models.layer_chooser import LayerChooser, mean_around
from avatar.warp.prior import GeometricPrior
from pose.keypoints import LEFT_HAND, RIGHT_HAND

SMALL = {"channels": (8, 8, 16, 16)}


@pytest.fixture(scope="module")
def moved():
    image, reference, depth, matte = figure(256, 256)
    return GeometricPrior(image, reference, depth, matte), driven(reference, 3)


def settled(layer: str | None) -> LayerChooser:
    """A chooser that says everywhere that a layer is by far the best; None: that the prior is."""
    torch.manual_seed(0)
    chooser = LayerChooser(**SMALL)
    bias = torch.full((len(LAYERS),), 5.0)
    if layer is not None:
        bias[LAYERS.index(layer)] = -5.0
    with torch.no_grad():
        chooser.conv_out.bias.copy_(bias.repeat_interleave(4))
    return chooser


def test_sizes_the_network_works_at():
    assert working_size((512, 512)) == (256, 256) and working_size((448, 576)) == (224, 288)
    assert working_size((64, 64)) == (256, 256)
    height, width = working_size((1920, 1088))
    assert height % 16 == width % 16 == 0 and 0.8 < height * width / 256**2 < 1.2


def test_layers_of_a_picture_in_their_places(moved):
    prior, keypoints = moved
    rendered, pieces = prior.render_layers(keypoints)
    seen = candidates(rendered, pieces, keypoints)
    frames, count = 3, len(LAYERS)
    assert seen.colours.shape == (frames, 1 + count, 3, 256, 256) and seen.bones.shape == (frames, 9, 128, 128)
    assert seen.coverage.shape == seen.sure.shape == (frames, count, 256, 256)
    torch.testing.assert_close(seen.colours[:, 0], rendered.frames)
    torch.testing.assert_close(seen.doubt, 1 - rendered.confidence)
    arm = LAYERS.index("left upper arm")
    sleeve = torch.tensor([170, 80, 80]) / 255
    covered = (seen.coverage[1, arm] > 0.95) & (seen.sure[1, arm] > 0.9)
    assert covered.sum() > 200
    assert (seen.colours[1, 1 + arm].permute(1, 2, 0)[covered] - sleeve).abs().median() < 0.03
    beyond = seen.coverage[1, arm] == 0  # continued smoothly, not black
    assert (seen.colours[1, 1 + arm].permute(1, 2, 0)[beyond] - sleeve).abs().median() < 0.15
    for piece in pieces:
        whole = full_colours(piece, seen.colours[:, 1 + LAYERS.index(piece.name)])
        back = piece.coverage > 0.999
        assert ((whole - piece.colour).abs() * back).max() < 0.01


def test_a_missing_arm_is_the_prior(moved):
    image, reference, depth, matte = figure(256, 256, elbows=False)
    prior = GeometricPrior(image, reference, depth, matte)
    rendered, pieces = prior.render_layers(reference)
    seen = candidates(rendered, pieces, reference)
    assert {piece.name for piece in pieces} == {"background", "trunk and head"}
    for name in LAYERS[2:]:
        assert torch.equal(seen.colours[:, 1 + LAYERS.index(name)], seen.colours[:, 0])
        assert seen.coverage[:, LAYERS.index(name)].max() == 0
    assert seen.bones[:, :6].max() == 0  # arms and hands that are not known


def test_bones_are_near_where_they_are(moved):
    _, keypoints = moved
    maps = bone_maps(keypoints, (128, 128))
    elbow = (keypoints.points[2, 7] / 2).astype(int)
    assert maps[2, 0, elbow[1], elbow[0]] > 0.9 and maps[2, 1, elbow[1], elbow[0]] > 0.9
    assert maps[2, 2, elbow[1], elbow[0]] < 0.1  # the other arm
    tip = (keypoints.points[1, LEFT_HAND][8] / 2).astype(int)
    assert maps[1, 4, tip[1], tip[0]] > 0.8 > 0.2 > maps[1, 5, tip[1], tip[0]]
    assert maps.min() >= 0 and maps.max() <= 1


def test_a_mirrored_picture_has_mirrored_maps(moved):
    _, keypoints = moved
    points = keypoints.points.copy()
    points[..., 0] = 256 - points[..., 0]
    order = np.arange(points.shape[1])
    for left, right in ((5, 6), (7, 8), (9, 10), (11, 12)):
        order[[left, right]] = right, left
    order[LEFT_HAND], order[RIGHT_HAND] = np.arange(44, 65), np.arange(23, 44)
    other = bone_maps(replace(keypoints, points=points[:, order]), (128, 128))
    torch.testing.assert_close(other[:, MIRRORED_BONES].flip(-1), bone_maps(keypoints, (128, 128)), atol=1e-4, rtol=0)
    names = [name.replace("left", "x").replace("right", "left").replace("x", "right") for name in LAYERS]
    assert [LAYERS[n] for n in MIRRORED] == names


def test_only_what_is_in_doubt_changes(moved):
    prior, keypoints = moved
    plain = prior.render(keypoints)
    same = ChosenPrior(prior, settled(None)).render(keypoints)
    torch.testing.assert_close(same.frames, plain.frames, atol=1e-3, rtol=0)
    rendered, pieces = prior.render_layers(keypoints)
    chosen = ChosenPrior(prior, settled("background")).render(keypoints)
    assert torch.equal(chosen.confidence, plain.confidence)
    sure, lost = plain.confidence == 1, plain.confidence == 0
    assert torch.equal(chosen.frames[0], plain.frames[0])  # at rest nothing is in doubt
    assert ((chosen.frames - plain.frames).abs() * sure).max() == 0
    spared, left_alone = torch.zeros_like(lost), torch.zeros_like(lost)
    maps = functional.interpolate(bone_maps(keypoints, (128, 128)), (256, 256), mode="bilinear")
    for part, (low, high) in ((HAND_MAPS, HAND_SPARED), (HEAD_MAP, HEAD_SPARED)):
        near = maps[:, part].amax(1, keepdim=True)
        left_alone |= near >= high
        spared |= near > low
    lost &= ~spared
    assert lost.sum() > 100
    assert ((chosen.frames - pieces[0].colour).abs() * lost).max() < 0.02
    held = (plain.confidence < 0.9) & left_alone
    assert held.sum() > 20 and ((chosen.frames - plain.frames).abs() * held).max() < 0.03


def test_a_layer_is_not_shown_far_from_itself(moved):
    prior, keypoints = moved
    seen = candidates(*prior.render_layers(keypoints), keypoints)
    everywhere = torch.ones_like(seen.coverage)
    held = held_back(everywhere, replace(seen, bones=torch.zeros_like(seen.bones)))
    for layer in range(1, len(LAYERS)):
        covered = seen.coverage[0, layer] > 0.99
        away = torch.from_numpy(distance_transform_edt(seen.coverage[0, layer].numpy() == 0))
        assert held[0, layer][covered].min() > 0.98
        reach = REACH[layer]
        assert held[0, layer][away > 2 * reach + 2].max() == 0
        assert held[0, layer][(away > 0) & (away <= reach)].mean() > 0


def test_the_trunk_ends_sooner_before_arms(moved):
    prior, keypoints = moved
    seen = candidates(*prior.render_layers(keypoints), keypoints)
    held = held_back(torch.ones_like(seen.coverage), replace(seen, bones=torch.zeros_like(seen.bones)))[:, TRUNK]
    arm = seen.coverage[:, ARM_LAYERS].amax(1) > 0.99
    away = torch.stack([torch.from_numpy(distance_transform_edt(x.numpy() == 0)) for x in seen.coverage[:, TRUNK]])
    beyond = arm & (away > 2 * BEFORE_ARMS + 2)
    assert beyond.sum() > 100 and held[beyond].max() < 0.1
    assert held[~arm & (away > 2 * BEFORE_ARMS + 2) & (away < REACH[TRUNK] - 2)].mean() > 0.5


def test_a_frame_does_not_depend_on_those_beside_it(moved):
    prior, keypoints = moved
    many = keypoints[[0, 1, 2, 1, 2, 0, 2]]
    chosen = ChosenPrior(prior, settled("trunk and head"))
    together = chosen.render(many)
    torch.testing.assert_close(together.frames[4], chosen.render(many[slice(4, 5)]).frames[0], atol=1e-5, rtol=0)
    assert len(chosen.render(many[slice(0, 0)])) == 0


def test_an_untrained_chooser_is_saved_and_loaded_and_told_from_a_pipeline(tmp_path):
    chooser = LayerChooser(**SMALL)
    chooser.save_pretrained(tmp_path / "chooser")
    again = load_video_model(tmp_path / "chooser")
    assert isinstance(again, LayerChooser) and not again.training
    for name, tensor in chooser.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    pipeline = load_video_model("configs/model_tiny.yaml")
    assert type(pipeline) is type(load_pipeline("configs/model_tiny.yaml"))


def test_a_chooser_of_other_layers_is_refused(moved):
    with pytest.raises(ValueError, match="trained for 4 layers"):
        ChosenPrior(moved[0], LayerChooser(layers=4, **SMALL))


def test_every_input_reaches_the_network_and_every_weight_learns():
    torch.manual_seed(0)
    chooser = LayerChooser(**SMALL)
    for parameter in chooser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    shapes = ((1, 7, 3, 64, 48), (1, 6, 64, 48), (1, 6, 64, 48), (1, 1, 64, 48), (1, 9, 32, 24))
    inputs = [torch.rand(shape, requires_grad=True) for shape in shapes]
    said = chooser(*inputs)
    assert said.shape == (1, 6, 64, 48)
    shares = chooser.shares(said)
    assert shares.min() >= 0 and shares.sum(1).max() <= 1
    said.square().sum().backward()
    for tensor in (*inputs, *chooser.parameters()):
        assert tensor.grad is not None and tensor.grad.abs().max() > 0


def test_a_pixel_is_outvoted_by_those_around_it():
    chooser = LayerChooser(**SMALL, temperature=0.02, margin=0.1)
    said = torch.full((1, 6, 32, 32), 1.0)
    said[:, 1] = -1.0
    said[0, 1, 16, 16] = said[0, 1, 0, 0] = 3.0
    assert chooser.shares(said)[0, 1].min() > 0.99
    said[0, 1, 10:20, 10:20] = 3.0
    assert chooser.shares(said)[0, 1, 12:18, 12:18].max() < 0.01
    ones = torch.ones(1, 2, 8, 6)
    assert torch.equal(mean_around(ones, 5), ones)  # nothing comes in at the border
    with pytest.raises(ValueError, match="odd side"):
        LayerChooser(**SMALL, smooth=4)
