"""What the full video model costs, counted: floating-point operations and parameters, on the meta device.

    python benchmarks/video_flops.py            the table
    python benchmarks/video_flops.py --check    and exit 1 where a limit is passed

A multiplication and an addition are two operations, as torch's counter has it. EchoMimicV2's and
Moore-AnimateAnyone's figures were counted the same way from their released code (echomimic_v2 of 2025-08-11,
Moore-AnimateAnyone of 2024-05-29).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from avatar.models.identity import IdentityEncoder
from avatar.models.pose_encoder import PoseEncoder
from avatar.models.reference import ReferenceNet
from avatar.models.unet import AvatarUNet

FULL = Path(__file__).resolve().parents[1] / "configs" / "model_full.yaml"
SIZE, FRAMES, MOTION_FRAMES, AUDIO_TOKENS = 768, 12, 4, 32
ECHOMIMIC_BRANCH, ECHOMIMIC_STEP, ECHOMIMIC_MPARAMS = 42.10, 93.03, 1303.1  # 768 x 768 x 12
MOORE_MPARAMS = 1312.7


def tera(call: Callable[[], Any]) -> float:
    """Operations of one call, in 1e12."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e12


def millions(*modules: nn.Module) -> float:
    return sum(parameter.numel() for module in modules for parameter in module.parameters()) / 1e6


def count() -> tuple[list[tuple[str, float]], list[tuple[str, float, float]]]:
    """Rows of the table, and (what, value, limit) of the limits."""
    config = yaml.safe_load(FULL.read_text(encoding="utf-8"))
    side = SIZE // 8
    with torch.device("meta"):
        unet = AvatarUNet(**config["unet"]).requires_grad_(False)
        reference_net = ReferenceNet.matching(unet).requires_grad_(False)
        pose_encoder = PoseEncoder(out_channels=unet.config.block_out_channels[0], **config["pose_encoder"])
        identity_encoder = IdentityEncoder(identity_dim=unet.config.identity_dim, **config["identity_encoder"])

        photo, before = torch.empty(1, 4, side, side), torch.empty(MOTION_FRAMES, 4, side, side)
        seen = reference_net.encode(photo)
        reference = unet.project_reference(seen)
        motion = unet.motion_maps(reference_net.encode(before), 1)
        audio = torch.empty(1, FRAMES, AUDIO_TOKENS, unet.config.audio_dim)
        crop = identity_encoder.config.crop_size
        crops = torch.empty(1, 3, crop, crop), torch.empty(1, 2, 3, crop, crop)
        present = torch.ones(1, 2, dtype=torch.bool)
        identity = identity_encoder(*crops, present)
        pictures = torch.empty(1, 3, FRAMES, SIZE, SIZE)
        conditions = {
            "pose": pose_encoder(pictures, "body"),
            "motion": motion,
            "hand_clarity": torch.empty(1, FRAMES, 2),
        }
        sample, time = torch.empty(1, unet.config.in_channels, FRAMES, side, side), torch.empty(1)
        nobody = identity_encoder.null(1)

        streams: dict[str, dict[str, Any]] = {
            "  U-Net without streams": {},
            "  + reference keys": {"reference": reference},
            "  + audio": {"reference": reference, "audio": audio},
            "  + motion frames": {"reference": reference, "audio": audio, "motion": motion},
        }
        rows = [(f"{name}, TFLOP", tera(lambda on=on: unet(sample, time, **on))) for name, on in streams.items()]
        on = {**conditions, "reference": reference, "audio": audio, "identity": identity}
        branch = tera(lambda: unet(sample, time, **on))
        base = tera(lambda: unet(sample, time, **conditions, identity=nobody))
        silent = tera(lambda: unet(sample, time, **conditions, reference=reference, identity=identity))
        projecting = tera(lambda: unet.project_reference(seen))
        unprojected = tera(lambda: unet(sample, time, **{**on, "reference": seen}))
        rows += [
            ("  + regions, pose, clarity: one branch, TFLOP", branch),
            ("EchoMimicV2's branch, TFLOP", ECHOMIMIC_BRANCH),
            ("guided step of three passes, TFLOP", base + silent + branch),
            ("EchoMimicV2's guided step of two, TFLOP", ECHOMIMIC_STEP),
            ("once a video: reference net, TFLOP", tera(lambda: reference_net.encode(photo))),
            ("once a video: keys and values of the reference, TFLOP", projecting),
            ("once a video: identity, TFLOP", tera(lambda: identity_encoder(*crops, present))),
            ("once a window: motion frames, TFLOP", tera(lambda: reference_net.encode(before))),
            ("once a window: pose maps, TFLOP", tera(lambda: pose_encoder(pictures, "body"))),
            ("U-Net, million parameters", millions(unet)),
            ("  of them motion modules", sum(millions(m) for m in motion_modules(unet))),
            ("  of them regions", millions(unet.region_layers)),
            ("EchoMimicV2's U-Net", ECHOMIMIC_MPARAMS),
            ("Moore-AnimateAnyone's U-Net", MOORE_MPARAMS),
            ("reference net, million parameters", millions(reference_net)),
            ("pose and identity encoders, million parameters", millions(pose_encoder, identity_encoder)),
        ]
        limits = [
            ("one branch over EchoMimicV2's", branch / ECHOMIMIC_BRANCH, 1.10),
            ("guided step over one branch", (base + silent + branch) / branch, 3.0),
            # what a step would save if the reference were not projected in it, less that projection: nothing
            ("reference work in a step, TFLOP", abs(branch - (unprojected - projecting)), 1e-9),
            ("parameters off EchoMimicV2's", abs(millions(unet) / ECHOMIMIC_MPARAMS - 1), 0.15),
        ]
    return rows, limits


def motion_modules(unet: AvatarUNet) -> list[nn.Module]:
    return [block.motion_modules for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts what configs/model_full.yaml costs.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a limit is passed")
    arguments = parser.parse_args()
    rows, limits = count()
    print(
        f"{FULL.name} at {SIZE} x {SIZE} x {FRAMES} frames, {MOTION_FRAMES} motion frames, {AUDIO_TOKENS} audio tokens"
    )
    for name, value in rows:
        print(f"{name:<58}{value:>10.2f}")
    for name, value, limit in limits:
        print(f"{name:<58}{value:>10.3f}   limit {limit:.2f}   {'ok' if value <= limit + 1e-9 else 'PASSED'}")
    if arguments.check and any(value > limit + 1e-9 for _, value, limit in limits):
        sys.exit(1)


if __name__ == "__main__":
    main()
