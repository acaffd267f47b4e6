"""The described sizes build, and `full` costs what the issue allows (benchmarks/video_flops.py prints all of it)."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from avatar.models.reference import ReferenceNet
from avatar.models.unet import AvatarUNet

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
ECHOMIMIC_TFLOP, ECHOMIMIC_PARAMETERS = 42.10, 1303.1e6  # EchoMimicV2's branch at 768 x 768 x 12


def built(name: str) -> tuple[AvatarUNet, ReferenceNet]:
    config = yaml.safe_load((CONFIGS / f"model_{name}.yaml").read_text(encoding="utf-8"))
    with torch.device("meta"):
        unet = AvatarUNet(**config["unet"]).requires_grad_(False)
        return unet, ReferenceNet.matching(unet).requires_grad_(False)


@pytest.mark.parametrize("name, megabytes", [("tiny", 2), ("default", 28), ("full", 4500)])
def test_weights_in_half_precision(name, megabytes):
    total = sum(parameter.numel() for model in built(name) for parameter in model.parameters())
    assert 0.6 * megabytes < total * 2 / 1e6 < megabytes


def test_full_branch_costs_at_most_a_tenth_more_than_echomimic():
    unet, reference_net = built("full")
    with torch.device("meta"), torch.no_grad():
        reference = unet.project_reference(reference_net.encode(torch.empty(1, 4, 96, 96)))
        motion = unet.motion_maps(reference_net.encode(torch.empty(4, 4, 96, 96)), 1)
        with FlopCounterMode(display=False) as counter:
            unet(
                torch.empty(1, 9, 12, 96, 96),
                torch.empty(1),
                audio=torch.empty(1, 12, 32, 768),
                pose=torch.empty(1, 320, 12, 96, 96),
                reference=reference,
                motion=motion,
                identity={region: torch.empty(1, 32, 768) for region in ("face", "hands")},
                hand_clarity=torch.empty(1, 12, 2),
            )
    assert counter.get_total_flops() / 1e12 < 1.10 * ECHOMIMIC_TFLOP
    assert abs(sum(p.numel() for p in unet.parameters()) / ECHOMIMIC_PARAMETERS - 1) < 0.15
