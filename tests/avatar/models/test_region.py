"""Region codebook attention: orthogonal codes, time in the temporal codebook, the mask gate, null start."""

import numpy as np
import pytest
import torch

from avatar.models.region import HAND_JOINTS, RegionCodebookAttention, frame_positions, orthonormal_rows

BATCH, FRAMES, CHANNELS, SIZE, TIME = 2, 4, 16, 6, 32


@pytest.fixture
def module(wake) -> RegionCodebookAttention:
    return wake(
        RegionCodebookAttention(
            CHANNELS, 12, TIME, num_codes=8, num_temporal_codes=6, heads=2, norm_groups=4, head_channels=8
        )
    )


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    return {
        "x": torch.randn(BATCH * FRAMES, CHANNELS, SIZE, SIZE),
        "identity": torch.randn(BATCH, 5, 12),
        "time": torch.randn(BATCH * FRAMES, TIME),
    }


def test_rows_are_gram_schmidts():
    codes = torch.randn(5, 9, dtype=torch.float64)
    expected: list[np.ndarray] = []
    for row in codes.numpy():
        for earlier in expected:
            row = row - (row @ earlier) * earlier
        expected.append(row / np.linalg.norm(row))
    np.testing.assert_allclose(orthonormal_rows(codes).numpy(), np.array(expected), atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_codes_stay_orthogonal_through_training(module, inputs, autocast):
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)  # large, to tear at them
    before = module.spatial.codes.clone()
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = module(**inputs, num_frames=FRAMES)
            books = [module.spatial.orthogonal(), module.temporal.orthogonal()]
        for codes in books:
            assert codes.dtype == torch.float32
            torch.testing.assert_close(codes @ codes.T, CHANNELS * torch.eye(len(codes)), atol=1e-4, rtol=0)
        optimiser.zero_grad()
        (out.residual.float() - 1).square().mean().backward()
        optimiser.step()
    assert (module.spatial.codes - before).abs().max() > 0.1


def test_bfloat16_codes_are_orthogonal_in_float32(module):
    codes = module.to(torch.bfloat16).spatial.orthogonal()
    torch.testing.assert_close(codes @ codes.T, CHANNELS * torch.eye(len(codes)), atol=1e-4, rtol=0)


def test_permuted_frames_change_what_the_temporal_codebook_gives(module, inputs):
    """Without positions, attention to shared codes would be pointwise, and order would not matter at all."""
    order = torch.tensor([2, 0, 3, 1])
    x = inputs["x"].unflatten(0, (BATCH, FRAMES))
    time = inputs["time"][:1].expand(BATCH * FRAMES, -1)
    identity = inputs["identity"]
    permuted = x[:, order].flatten(0, 1)
    with torch.no_grad():
        for temporal in (False, True):
            straight = module(x.flatten(0, 1), identity, time, FRAMES, temporal).residual
            shuffled = module(permuted, identity, time, FRAMES, temporal).residual
            straight = straight.unflatten(0, (BATCH, FRAMES))[:, order].flatten(0, 1)
            difference = (shuffled - straight).abs().max() / straight.abs().max()
            assert (difference > 0.02) if temporal else (difference < 1e-5)


def test_frame_positions_differ_and_are_sinusoids():
    positions = frame_positions(32, 15, torch.device("cpu"))
    assert positions.shape == (32, 15)
    assert torch.equal(positions[0], torch.tensor([0.0, 1.0] * 7 + [0.0]))
    assert (torch.cdist(positions, positions) + torch.eye(32) > 0.1).all()


def test_starts_without_effect(inputs):
    fresh = RegionCodebookAttention(CHANNELS, 12, TIME, num_codes=8, num_temporal_codes=6, heads=2, norm_groups=4)
    assert not fresh(**inputs, num_frames=FRAMES).residual.any()


def test_mask_gates_the_residual(module, inputs):
    """F_out - F_in is (F_motion + F_id) · M: nothing where the mask is shut, all of it where it is open."""
    with torch.no_grad():
        free = module(**inputs, num_frames=FRAMES)
        ungated = free.residual / free.mask_logits.sigmoid()
        module.mask_out.weight.zero_()
        for bias, mask in ((-200.0, 0.0), (0.0, 0.5), (200.0, 1.0)):
            module.mask_out.bias.fill_(bias)
            torch.testing.assert_close(module(**inputs, num_frames=FRAMES).residual, mask * ungated)


@pytest.mark.parametrize("parameter", ["spatial.codes", "temporal.codes", "to_v_identity.weight"])
def test_codes_and_identity_move_the_mask_area_alone(module, inputs, parameter):
    """Pixel by pixel, the gradient of the residual scales with the mask."""
    out = module(**inputs, num_frames=FRAMES)
    mask = out.mask_logits.sigmoid()
    for row, column in ((0, 0), (2, 3)):
        weight = module.get_parameter(parameter)
        gated, plain = out.residual[0, :, row, column], (out.residual / mask.detach())[0, :, row, column]
        (scaled,) = torch.autograd.grad(gated.sum(), weight, retain_graph=True)
        (full,) = torch.autograd.grad(plain.sum(), weight, retain_graph=True)
        torch.testing.assert_close(scaled, full * mask[0, 0, row, column])
        assert full.any()


def test_mask_learns_a_box(module, inputs):
    box = torch.zeros(BATCH * FRAMES, 1, SIZE, SIZE)
    box[..., 1:4, 2:5] = 1
    optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        logits = module(inputs["x"] + 2 * box, inputs["identity"], inputs["time"], FRAMES).mask_logits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, box)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert ((logits > 0) == (box > 0)).float().mean() > 0.95


def test_heat_maps_only_for_hands_and_only_when_asked(inputs):
    hands = RegionCodebookAttention(CHANNELS, 12, TIME, 8, 8, heads=2, norm_groups=4, num_joints=HAND_JOINTS)
    assert hands(**inputs, num_frames=FRAMES).heatmaps is None
    maps = hands(**inputs, num_frames=FRAMES, heatmaps=True).heatmaps
    assert maps is not None and maps.shape == (BATCH * FRAMES, 42, SIZE, SIZE)


def test_more_codes_than_channels():
    with pytest.raises(ValueError, match="cannot be orthogonal in 16 channels"):
        RegionCodebookAttention(16, 12, TIME, num_codes=17)
