"""One photo moved to random poses and back: the damage that the geometric prior does, and how far it admits it.

Letters: V variants, F = V + 1 frames, K = 543 keypoints, C h w latents, H W picture size.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from avatar import conditions, latents
from avatar.data.clips import FPS, Clip, make_clip
from avatar.sizes import crop_to_aspect, resize, working_size
from avatar.warp.layers import Layers
from avatar.warp.prior import GeometricPrior, Prior
from pose.arm_turns import turned_arms
from pose.detect import PersonDetector
from pose.keypoints import HANDS, Detection, Keypoints
from pose.motion import Motion
from pose.prosody import ProsodyMotion
from pose.retarget import Retargeter
from pose.speech import open_speech
from train.avatar_prior import packed, unpacked
from train.pictures import VIDEOS, read_pictures

if TYPE_CHECKING:
    from train.repair import RepairSettings

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]

SPEAKERS = 4  # ours: prosody's own variety; each is made once a process
LIVELINESS = 1.5  # the liveliest that prosody allows
SETTLED_S = 1.5  # motion departs from the photo over the first 0.6 s
TURNS = (0.3, 0.55, 0.35)  # ours: deviations of extra turns at shoulder, elbow, wrist, radians; speech moves less
TURN_SHARE = 0.75  # of the variants have extra turns
TRIES = 8  # for arms that stay in the picture, each with smaller turns
NEARER, GAMMA, TINT = 0.2, 0.35, 0.15  # ours: of copies, largest cut, log of the gamma, gain of a colour
CROP_SIDE = 128  # of identity crops, the default model's
OUTLINE = (0.3, 0.9)  # ours: coverage from which a pixel is the person's in another place; the rim is the old place's
SHOWN = 4  # variants on a sheet


def damaged_clip(
    path: Path, split: str, key: str, settings: RepairSettings, copy: int = 0, behind: Path | None = None
) -> tuple[Clip, Image.Image]:
    """The repair clip of a photo (or the middle frame of a video), without latents, and a sheet to look at.

    `copy` above 0: of the photo as `changed` with that number. `behind`: a photo whose background it gets.

    ValueError when the photo cannot be read or shows nobody.
    """
    picture, detection = seen(path, settings.side, copy)
    if behind is not None:
        picture = in_place_of(picture, detection, *seen(behind, settings.side, copy))
    size = picture.shape[:2]
    generator = np.random.default_rng([settings.seed, *key.encode()])
    reference, depth = detection.keypoints, detection.depth[0]
    matte = detection.matte[0]

    # 1. Away: the photo at V poses, how far each pixel of that is true, and the person's matte there
    away = random_poses(detection, settings, generator)
    first = GeometricPrior(picture, reference, depth, matte)
    moved, mattes = first.render(away), first.silhouette().render(away).frames[:, 0]
    photos = (moved.frames * 255).round().byte().permute(0, 2, 3, 1).numpy()
    known = moved.confidence[:, 0].numpy()

    # 2. And back: each of them as a photo of its own
    back, trust = [torch.from_numpy(picture).permute(2, 0, 1)[None] / 255], [torch.ones(1, 1, *size)]
    for number in range(settings.variants):
        own = away[slice(number, number + 1)]
        second = GeometricPrior(photos[number], own, depth, mattes[number].numpy(), known=known[number])
        prior = second.render(reference)
        back.append(prior.frames)
        trust.append(prior.confidence)
    restored, confidence = torch.cat(back), torch.cat(trust)

    # 3. What trainers read, but for the latents
    frames = np.concatenate([picture[None], photos])
    keypoints = Keypoints.concatenated([replace(reference, fps=FPS), replace(away, fps=FPS)])
    boxes = np.concatenate([conditions.region_boxes(keypoints, region) for region in ("face", "hands")], axis=1)
    meta = {
        "key": key, "source": path.name, "track": 0, "start_s": 0.0, "split": split, "repair": settings.variants,
        "seed": settings.seed,
    }  # fmt: skip
    clip = make_clip(
        meta,
        frames,
        (torch.cat([torch.from_numpy(matte)[None], mattes]).clamp(0, 1) * 255).round().byte().numpy(),
        crops=_crops(frames, boxes),
        points=keypoints.points,
        confidence=keypoints.confidence,
        depth=np.repeat(depth[None], len(frames), axis=0),
        clarity=conditions.hand_clarity(frames, keypoints),
        movement_box=conditions.movement_box(reference, enlarge=1.0),
        boxes=boxes,
        extra=packed(Prior(restored, confidence)),
    )
    return clip, _sheet(frames, restored, confidence)


def with_latents(clip: Clip, vae: Any, name: str) -> Clip:
    """A repair clip with the latents of its pictures and of the damaged photo; `name` of the autoencoder."""
    prior = unpacked(clip.extra, clip.size)
    pictures = torch.from_numpy(clip.frames().copy()).permute(0, 3, 1, 2) / 255
    found = {
        "prior_latents": latents.encode(vae, prior.frames).half().numpy(),
        "doubt": latents.doubt(prior.confidence, vae).half().numpy(),
    }
    return replace(
        clip,
        meta={**clip.meta, "networks": {"vae": name}},
        latents=latents.encode(vae, pictures).half().numpy(),
        extra={**clip.extra, **found},
    )


def seen(path: Path, side: int, copy: int = 0) -> tuple[Picture, Detection]:
    """A photo at its working size and who is in it; of a video the middle frame of those a second apart.

    Copies of a video are of other frames.
    """
    pictures = read_pictures([path], 1.0, 1536)
    if not pictures:
        raise ValueError("it cannot be read")
    picture = pictures[(len(pictures) // 2 + copy) % len(pictures)] if path.suffix.lower() in VIDEOS else pictures[0]
    if copy:
        picture = changed(picture, copy)
    size = working_size(*picture.shape[:2], side)
    picture = crop_to_aspect(picture, size)
    with PersonDetector() as detector:
        detection = detector.image(picture)
    return resize(picture, size), detection.resized(size)


def changed(picture: Picture, copy: int) -> Picture:
    """A copy (h, w, 3) of a photo to learn from: every odd one mirrored, nearer by up to a fifth, other colours.

    What changes how far is drawn from the number and the photo, so that copies of one number are not all alike.
    """
    generator = np.random.default_rng([copy, zlib.crc32(picture.tobytes())])
    share = 1 - NEARER * generator.random()
    height, width = (round(share * side) for side in picture.shape[:2])
    top, left = (
        int(generator.integers(whole - part + 1)) for whole, part in zip(picture.shape, (height, width), strict=False)
    )
    part = picture[top : top + height, left : left + width, :]
    bright = (part / 255.0) ** np.exp(generator.uniform(-GAMMA, GAMMA)) * (1 + TINT * generator.uniform(-1, 1, 3))
    out = np.clip(bright * 255, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(out[:, :: -1 if copy % 2 else 1])


def in_place_of(picture: Picture, detection: Detection, other: Picture, there: Detection) -> Picture:
    """The person of one picture (H, W, 3) before the background of another, where somebody else stood: what is hidden
    there is the prior's own guess."""
    matte = _layers(picture, detection).matte
    alpha = np.clip((matte - OUTLINE[0]) / (OUTLINE[1] - OUTLINE[0]), 0, 1)[..., None]
    place = resize((_layers(other, there).background.transpose(1, 2, 0) * 255).round().astype(np.uint8), matte.shape)
    return (alpha * picture + (1 - alpha) * place).round().astype(np.uint8)


def _layers(picture: Picture, detection: Detection) -> Layers:
    return GeometricPrior(picture, detection.keypoints, detection.depth[0], detection.matte[0]).layers


def random_poses(detection: Detection, settings: RepairSettings, generator: np.random.Generator) -> Keypoints:
    """V poses of the person: moments of talking, most with the arms turned further; hands that are in the picture stay
    in it."""
    speaker = int(generator.integers(SPEAKERS))
    talking = Keypoints.concatenated(list(Retargeter(detection).stream(_talk(settings.speech, speaker))))
    moments = generator.choice(np.arange(round(SETTLED_S * FPS), len(talking)), settings.variants)
    poses = talking[np.sort(moments)]
    reference = detection.keypoints
    hands = [part for part in HANDS.values() if reference.confidence[0, part].min() > conditions.KNOWN]
    points = [_turned(pose, hands, reference.size, generator) for pose in poses.points]
    return replace(poses, points=np.stack(points))


def _turned(points: Array, hands: list[slice], size: tuple[int, int], generator: np.random.Generator) -> Array:
    """One pose (K, 2) with its arms turned at random, so far as the visible hands stay in the picture."""
    if generator.random() > TURN_SHARE:
        return points
    limit = np.array(size[::-1], np.float32)
    for attempt in range(TRIES):
        angles = generator.normal(size=(2, 3)).clip(-2, 2) * np.array(TURNS) * (1 - attempt / TRIES)
        turned = turned_arms(points, angles)
        if all(((turned[part] >= 0) & (turned[part] < limit)).all() for part in hands):
            return turned
    return points


@lru_cache(maxsize=SPEAKERS)
def _talk(speech: str, speaker: int) -> list[Motion]:
    return list(ProsodyMotion(speaker, FPS, LIVELINESS).stream(open_speech(speech).features(FPS)))


def _crops(frames: Picture, boxes: Array) -> list[Picture]:
    """Identity crops of each frame, (3, S, S, 3); black where a part is not in view."""
    blank = np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8)
    return [
        np.stack([conditions.square_crop(frame, b, CROP_SIDE) if np.isfinite(b[0]) else blank for b in parts])
        for frame, parts in zip(frames, boxes, strict=True)
    ]


def _sheet(frames: Picture, restored: torch.Tensor, confidence: torch.Tensor) -> Image.Image:
    """A row a variant: the photo, moved, back again, and how far that is trusted."""
    back = (restored * 255).round().byte().permute(0, 2, 3, 1).numpy()
    grey = (confidence[:, 0] * 255).round().byte().numpy()[..., None].repeat(3, axis=-1)
    rows = [np.hstack([frames[0], frames[k], back[k], grey[k]]) for k in range(1, min(len(frames), SHOWN + 1))]
    return Image.fromarray(np.vstack(rows))
