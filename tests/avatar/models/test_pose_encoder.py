"""The pose encoder: zero at the start, kinds told apart, clips without a condition, bad input."""

import pytest
import torch

from avatar.models.pose_encoder import KINDS, PoseEncoder


def test_starts_at_zero(pose_encoder):
    out = pose_encoder(torch.rand(2, 3, 3, 32, 64), "box")
    assert out.shape == (2, 16, 3, 4, 8)
    assert not out.any()


def test_kinds_differ_and_none_is_zero(pose_encoder, wake):
    wake(pose_encoder)
    picture = torch.rand(1, 3, 1, 16, 16).expand(5, -1, -1, -1, -1)
    out = pose_encoder(picture, [*KINDS, "none"])
    for i, kind in enumerate(KINDS):
        torch.testing.assert_close(out[i : i + 1], pose_encoder(picture[:1], kind))
        assert all((out[i] - out[j]).abs().max() > 1e-5 for j in range(i))
    assert not out[-1].any()


def test_clips_without_a_condition_alone(pose_encoder, wake):
    """The network is not run for them, unless its weights are to get gradients (of zero)."""
    wake(pose_encoder)
    pictures = torch.rand(2, 3, 3, 16, 24)
    pose_encoder(pictures, "none").sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in pose_encoder.parameters())
    ran = []
    pose_encoder.conv_in.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        out = pose_encoder(pictures, "none")
    assert out.shape == (2, 16, 3, 2, 3)
    assert not out.any()
    assert not ran


def test_frames_are_independent(pose_encoder, wake):
    """So that a long video may be encoded in pieces."""
    wake(pose_encoder)
    pictures = torch.rand(2, 3, 5, 16, 16)
    pieces = torch.cat([pose_encoder(pictures[:, :, i : i + 2], "body") for i in (0, 2, 4)], dim=2)
    torch.testing.assert_close(pieces, pose_encoder(pictures, "body"))


def test_checkpointed_gradients(pose_encoder, wake):
    wake(pose_encoder)

    def gradients():
        pose_encoder.zero_grad()
        pose_encoder(torch.ones(1, 3, 2, 16, 16), "hands").square().sum().backward()
        return [parameter.grad.clone() for parameter in pose_encoder.parameters()]

    plain = gradients()
    pose_encoder.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b)


def test_save_and_load(pose_encoder, wake, tmp_path):
    wake(pose_encoder).save_pretrained(tmp_path)
    pictures = torch.rand(1, 3, 2, 16, 16)
    assert torch.equal(PoseEncoder.from_pretrained(tmp_path)(pictures, "box"), pose_encoder(pictures, "box"))


@pytest.mark.parametrize(
    "shape, kind, message",
    [
        ((1, 3, 2, 16, 16), "skeleton", "unknown condition kind 'skeleton'"),
        ((1, 3, 2, 16, 16), ["box", "box"], "2 condition kinds for 1 clips"),
        ((1, 1, 2, 16, 16), "box", "expected \\(B, 3, F"),
        ((1, 3, 2, 12, 16), "box", "multiples of 8"),
    ],
)
def test_bad_input(pose_encoder, shape, kind, message):
    with pytest.raises(ValueError, match=message):
        pose_encoder(torch.rand(shape), kind)
