"""Tiny real networks of the video stage (configs/model_tiny.yaml) and one set of conditions for them."""

from pathlib import Path

import pytest
import torch
import yaml

from avatar.models.identity import IdentityEncoder
from avatar.models.pose_encoder import PoseEncoder
from avatar.models.reference import ReferenceNet
from avatar.models.unet import AvatarUNet

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
BATCH, FRAMES, MOTION_FRAMES, SIZE = 2, 3, 2, 8


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> dict:
    return yaml.safe_load((CONFIGS / "model_tiny.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def make_unet(tiny):
    """A function that builds the tiny U-Net, always with the same weights, some fields changed."""

    def make(**changes) -> AvatarUNet:
        torch.manual_seed(1)
        return AvatarUNet(**(tiny["unet"] | changes)).eval()

    return make


@pytest.fixture
def pose_encoder(tiny) -> PoseEncoder:
    torch.manual_seed(3)
    return PoseEncoder(out_channels=tiny["unet"]["block_out_channels"][0], **tiny["pose_encoder"])


@pytest.fixture
def identity_encoder(tiny) -> IdentityEncoder:
    torch.manual_seed(4)
    return IdentityEncoder(identity_dim=tiny["unet"]["identity_dim"], **tiny["identity_encoder"])


@pytest.fixture
def wake():
    """A function that gives zero-initialised tensors values, as training would, so that branches have effects."""

    def wake(module: torch.nn.Module) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in module.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.2, generator=generator)
        return module

    return wake


@pytest.fixture
def sample() -> torch.Tensor:
    return torch.randn(BATCH, 9, FRAMES, SIZE, SIZE)


@pytest.fixture
def streams(tiny, make_unet):
    """A function of a U-Net: every condition of `AvatarUNet.forward`, random."""

    def streams(unet: AvatarUNet) -> dict:
        config = unet.config
        reference_net = ReferenceNet.matching(unet).eval()
        with torch.no_grad():
            reference = reference_net.encode(torch.randn(BATCH, 4, SIZE, SIZE))
            before = reference_net.encode(torch.randn(BATCH * MOTION_FRAMES, 4, SIZE, SIZE))
        clarity = torch.randn(BATCH, FRAMES, 2)
        clarity[0, 0, 1] = torch.nan
        return {
            "audio": torch.randn(BATCH, FRAMES, 4, config.audio_dim),
            "pose": torch.randn(BATCH, config.block_out_channels[0], FRAMES, SIZE, SIZE),
            "reference": reference,
            "motion": unet.motion_maps(before, BATCH),
            "identity": {region: torch.randn(BATCH, 6, config.identity_dim) for region in config.regions},
            "hand_clarity": clarity,
        }

    return streams
