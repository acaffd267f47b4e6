"""Identity tokens: null tokens for what is absent, both sources of the face, bad input."""

import pytest
import torch

from avatar.models.identity import IdentityEncoder

BOTH = torch.tensor([[True, True]])


@pytest.fixture
def crops():
    return torch.rand(1, 3, 64, 64) * 2 - 1, torch.rand(1, 2, 3, 64, 64) * 2 - 1


def test_shapes(identity_encoder, crops):
    tokens = identity_encoder(*crops, BOTH)
    assert tokens["face"].shape == (1, 4, 24)
    assert tokens["hands"].shape == (1, 8, 24)


def test_an_absent_hand_has_its_null_tokens_whatever_its_crop(identity_encoder, crops):
    face, hands = crops
    one = identity_encoder(face, hands, torch.tensor([[True, False]]))["hands"]
    both = identity_encoder(face, hands, BOTH)["hands"]
    nobody = identity_encoder.null(1)["hands"]
    torch.testing.assert_close(one[:, :4], both[:, :4])
    assert torch.equal(one[:, 4:], nobody[:, 4:])
    broken = torch.cat([hands[:, :1], torch.full_like(hands[:, 1:], torch.nan)], dim=1)
    assert torch.equal(identity_encoder(face, broken, torch.tensor([[True, False]]))["hands"], one)


def test_null_tokens_learn(identity_encoder, crops):
    tokens = identity_encoder(*crops, torch.tensor([[False, True]]), torch.tensor([False]))
    sum(x.sum() for x in tokens.values()).backward()
    assert identity_encoder.null_face.grad.any()
    assert identity_encoder.null_hand.grad[0].any() and not identity_encoder.null_hand.grad[1].any()
    assert torch.equal(tokens["face"], identity_encoder.null(1)["face"])


def test_the_face_may_come_as_an_embedding(tiny, crops):
    encoder = IdentityEncoder(**tiny["identity_encoder"], identity_dim=24, face_embedding_dim=512)
    embedding = torch.nn.functional.normalize(torch.randn(1, 512))
    assert encoder(embedding, crops[1], BOTH)["face"].shape == (1, 4, 24)
    with pytest.raises(ValueError, match="one embedding a clip"):
        encoder(crops[0], crops[1], BOTH)


def test_save_and_load(identity_encoder, crops, tmp_path):
    identity_encoder.save_pretrained(tmp_path)
    again = IdentityEncoder.from_pretrained(tmp_path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(again(*crops, BOTH).values(), identity_encoder(*crops, BOTH).values(), strict=True)
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda face, hands, present: (face[..., :32], hands, present), "a crop of 64 x 64 pixels"),
        (lambda face, hands, present: (face, hands[:, :1], present), "left and right crop"),
        (lambda face, hands, present: (face, hands, present.float()), "expected bool"),
    ],
)
def test_bad_input(identity_encoder, crops, change, message):
    with pytest.raises(ValueError, match=message):
        identity_encoder(*change(*crops, BOTH))
