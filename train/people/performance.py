"""One synthetic person speaking: a look, a room and a piece of speech become a prepared clip with exact labels.

Letters: F frames at 25 a second, K = 543 keypoints, H W picture size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar.conditions import hand_clarity, movement_box, region_boxes, square_crop
from avatar.data.clips import FPS, FRAME_SAMPLES, Clip, make_clip
from pose.keypoints import COUNT, HANDS, Keypoints
from pose.motion import Motion
from pose.prosody import prosody_motion
from pose.rotations import axis_angle_to_matrix
from pose.speech import open_speech, speech_features
from train.people.backdrops import draw_backdrop
from train.people.cycles import Cycles, developed
from train.people.figure import Figure
from train.people.labels import Labeller
from train.people.looks import draw_look
from train.people.meshes import Array
from train.people.raster import Camera, Rasteriser
from train.people.studio import bake, draw_camera, draw_lights, uniforms

FloatArray = NDArray[np.float32]
VERSION = 1  # of what a seed gives; raise it when looks or labels change
LEAD_S = 2.5  # of motion before a clip, so that clips do not all begin at rest
DEPTH_STEP = 8  # pixels between two values of the depth map: a latent's grid
DECIMETRE = 0.1  # metres
WIDEST = 1.35  # by which a camera may step back for the hands
EDGE = 0.02  # of the picture that stays free beside them
# How people stand: the most that a joint is turned, radians about x, y, z.
INWARD = 0.4  # share of `arm_turns` by which shoulders are turned inward: further, arms would sink into the body
STANCE = {"Spine1": (0.06, 0.10, 0.03), "Head": (0.06, 0.12, 0.06), "Neck": (0.04, 0.04, 0.02)}


@dataclass(frozen=True)
class PeopleConfig:
    """What is rendered. All values ours."""

    people: int = 40
    seconds: float = 4.0  # of each clip
    seed: int = 0  # everything follows from it and the files' names
    size: tuple[int, int] = (512, 512)  # (height, width), multiples of 64
    cycles: int = 0  # the first so many people are drawn by Blender's Cycles, see train.people.cycles
    cycles_samples: int = 4  # of light a pixel, denoised; 8 take up to twice as long
    oversample: float = 2.0  # pictures are drawn so much larger and averaged; 1.5 takes three quarters of the time
    liveliness: tuple[float, float] = (0.75, 1.25)  # of the gestures, see pose.prosody
    # Radians by which shoulders, elbows and wrists of single frames are turned beside the motion: frames are then
    # pictures of people with arms anywhere, and no motion any more.
    arm_turns: tuple[float, float, float] = (0.0, 0.0, 0.0)
    val_every: int = 8  # one person of so many validates; 0 for none
    context_s: float = 2.0  # of sound beside a clip, for speech networks
    identity_side: int = 128  # of face and hand crops; 0 for none
    audio: str | None = None  # model description or folder: speech states are added
    vae: str | None = None  # the same: latents are added

    def __post_init__(self) -> None:
        from avatar.data.clips import FRAMES

        if self.people < 1:
            raise ValueError(f"people must be at least 1, got {self.people}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if not (FRAMES[0] <= round(self.seconds * FPS) <= FRAMES[1] or round(self.seconds * FPS) == 2):
            raise ValueError(f"seconds must be from {FRAMES[0] / FPS:g} to {FRAMES[1] / FPS:g}, got {self.seconds:g}")
        if any(side % 64 or side < 64 for side in self.size):
            raise ValueError(f"size must be multiples of 64, got {self.size[0]} x {self.size[1]}")
        if not 0 <= self.cycles <= self.people:
            raise ValueError(f"cycles must be from 0 to people ({self.people}), got {self.cycles}")
        if self.cycles_samples < 1:
            raise ValueError(f"cycles_samples must be at least 1, got {self.cycles_samples}")
        if not 1 <= self.oversample <= 4:
            raise ValueError(f"oversample must be from 1 to 4, got {self.oversample:g}")
        low, high = self.liveliness
        if not 0 <= low <= high <= 1.5:
            raise ValueError(f"liveliness must rise within 0 to 1.5, got {low}, {high}")
        if not all(0 <= most <= np.pi for most in self.arm_turns):
            raise ValueError(f"arm_turns must be from 0 to 3.14, got {self.arm_turns}")


@lru_cache(maxsize=1)
def rasteriser(size: tuple[int, int], oversample: float) -> Rasteriser:
    """The process's own: a context takes a while to make."""
    return Rasteriser(size, oversample)


def perform(assets: Path, speech: Path, sound: str, number: int, config: PeopleConfig) -> Clip:
    """The clip of person `number` with a piece of the recording `speech / sound`."""
    recording = np.concatenate([np.zeros(0, np.float32), *open_speech(speech / sound).chunks()])
    random = np.random.default_rng([config.seed, VERSION, number])
    look = draw_look(random)
    figure = Figure(assets, look)
    frames = round(config.seconds * FPS)
    waveform, start = cut_speech(recording, frames, random)
    motion = move(waveform, start, frames, random, config)

    # 1. Studio: the camera steps back until the hands are in the picture.
    transforms = figure.puppet.pose(motion)
    expression = motion.expression
    assert expression is not None
    labeller = Labeller(figure)
    world = np.stack([labeller.points(t, e) for t, e in zip(transforms, expression, strict=True)])
    camera = with_hands(draw_camera(random, figure, config.size), world)
    lights, backdrop = draw_lights(random), draw_backdrop(random, config.size).astype(np.float32)
    painter = rasteriser(config.size, config.oversample)
    bake(painter, figure, transforms[0])
    painter.light(lights, **uniforms(look))
    realistic = Cycles(figure, lights, camera, config.cycles_samples) if number < config.cycles else None

    # 2. Frames and their labels.
    pictures = np.empty((frames, *config.size, 3), np.uint8)
    mattes = np.empty((frames, *config.size), np.uint8)
    points, confidence = np.empty((frames, COUNT, 2), np.float32), np.empty((frames, COUNT), np.float32)
    depth = np.empty((frames, COUNT), np.float32)
    step = DEPTH_STEP
    depth_map = np.empty((frames, config.size[0] // step, config.size[1] // step), np.float16)
    for frame in range(frames):
        places, normals = figure.points(transforms[frame], expression[frame])
        rgba, distance = painter.draw(camera, places, normals)
        colour: NDArray[Any] = rgba[..., :3]
        if realistic is not None:
            colour = developed(realistic.draw(places), rgba[..., 3], lights.exposure)
        uncovered = backdrop * (1 - rgba[..., 3:].astype(np.float32) / 255)
        pictures[frame] = np.clip(colour + uncovered + 0.5, 0, 255)
        mattes[frame] = rgba[..., 3]
        points[frame], depth[frame], confidence[frame] = labeller.project(world[frame], camera, distance)
        sampled = distance[step // 2 :: step, step // 2 :: step]
        depth_map[frame] = np.where(np.isfinite(sampled), sampled * DECIMETRE, 0)
    keypoints = Keypoints(points, confidence, config.size, FPS)
    boxes = np.concatenate([region_boxes(keypoints, "face"), region_boxes(keypoints, "hands")], axis=1)
    first = max(0, start - round(config.context_s * FPS))
    last = start + frames + round(config.context_s * FPS)
    heard = waveform[first * FRAME_SAMPLES : last * FRAME_SAMPLES]
    meta: dict[str, Any] = {
        "key": f"person{number:06d}s{config.seed}", "source": f"people/{config.seed}/{number:06d}", "track": 0,
        "start_s": 0.0, "split": split_of(number, config.val_every),
        "speech": sound, "speech_start_s": start / FPS, "outfit": look.outfit, "hair": look.hair, "maker": VERSION,
        "focal_px": float(camera.projection()[1, 1] * config.size[0] / 2),
    }  # fmt: skip
    if realistic is not None:
        meta["renderer"] = "cycles"
    clip = make_clip(
        meta, pictures, mattes, heard, start - first,
        crops=identity_crops(pictures, boxes, config.identity_side) if config.identity_side else None,
        points=points, confidence=confidence, depth=depth, clarity=hand_clarity(pictures, keypoints),
        movement_box=movement_box(keypoints, 1.0), boxes=boxes.astype(np.float32),
        extra={"depth_map": depth_map, "expression": expression.astype(np.float16)},
    )  # fmt: skip
    return with_networks(clip, pictures, config)


def split_of(number: int, val_every: int) -> str:
    """Which split a person belongs to."""
    return "val" if val_every and number % val_every == val_every - 1 else "train"


def cut_speech(waveform: FloatArray, frames: int, random: np.random.Generator) -> tuple[FloatArray, int]:
    """A recording (N,) long enough for `frames`, and a frame in it from which on somebody speaks."""
    if not len(waveform) or not np.isfinite(waveform).all():
        raise ValueError("the recording holds no sound")
    needed = frames * FRAME_SAMPLES
    if len(waveform) < needed:
        waveform = np.pad(waveform, (0, needed - len(waveform)))
    count = len(waveform) // FRAME_SAMPLES
    loud = np.square(waveform[: count * FRAME_SAMPLES].reshape(count, -1)).mean(1)
    running = np.convolve(loud, np.ones(frames) / frames, "valid")
    good = np.flatnonzero(running >= 0.5 * running.max())  # not a pause
    return waveform, int(random.choice(good))


def move(waveform: FloatArray, start: int, frames: int, random: np.random.Generator, config: PeopleConfig) -> Motion:
    """Motion for `frames` from frame `start` of the recording, with a stance of this person's own."""
    lead = min(start, round(LEAD_S * FPS))
    after = waveform[(start - lead) * FRAME_SAMPLES :][: (lead + frames + 150) * FRAME_SAMPLES]
    whole = prosody_motion(
        speech_features(after, FPS), int(random.integers(1 << 16)), float(random.uniform(*config.liveliness))
    )
    motion = whole[lead : lead + frames]
    rotations = motion.rotations.copy()
    for joint, most in STANCE.items():
        index = motion.skeleton.index(joint)
        turn = axis_angle_to_matrix(random.uniform(-1, 1, 3) * most).astype(np.float32)
        rotations[:, index] = turn @ rotations[:, index]
    motion = replace(motion, rotations=rotations)
    return with_turned_arms(motion, config.arm_turns, random) if any(config.arm_turns) else motion


def with_turned_arms(motion: Motion, most: tuple[float, float, float], random: np.random.Generator) -> Motion:
    """Motion whose shoulders, elbows and wrists are turned in the plane of the picture by up to `most` radians, each
    frame otherwise; shoulders inward by no more than INWARD of that."""
    far = random.uniform(0, 1, (len(motion), 1, 1))
    turns = far * random.uniform(-1, 1, (len(motion), 2, 3)) * most
    turns[..., 0] = np.maximum(turns[..., 0], -INWARD * most[0])
    skeleton, rotations = motion.skeleton, motion.rotations.copy()
    for joint, angles in zip(("Arm", "ForeArm", "Hand"), np.moveaxis(turns, 2, 0), strict=True):
        world = skeleton.global_rotations(rotations)
        for name, angle in (("Left" + joint, angles[:, 0]), ("Right" + joint, -angles[:, 1])):
            here = skeleton.index(name)
            turn = axis_angle_to_matrix(angle[:, None] * np.array([0.0, 0.0, 1.0]))  # positive: outward and up
            above = world[:, skeleton.parents[here]]
            rotations[:, here] = np.swapaxes(above, -1, -2) @ turn @ world[:, here]
    return replace(motion, rotations=rotations)


def with_hands(camera: Camera, world: Array) -> Camera:
    """The camera with a wider or moved picture in which both hands (of points (F, K, 3)) stay; within WIDEST."""
    hands = np.concatenate([world[:, part] for part in HANDS.values()], 1).reshape(-1, 3)
    flat, _ = camera.project(hands)
    height, width = camera.size
    across = np.abs(flat[:, 0] / width - 0.5).max() * 2
    below = flat[:, 1].max() / height
    wanted = max(across / (1 - 2 * EDGE), 1 + 0.75 * (below + EDGE - 1))
    factor = float(np.clip(wanted, 1.0, WIDEST))
    # The head keeps its distance from the upper border, as a share of the picture.
    drop = 0.25 * camera.span * (factor - 1)
    place, target = ((x, y - drop, z) for x, y, z in (camera.place, camera.target))
    return replace(camera, span=camera.span * factor, place=place, target=target)


def identity_crops(pictures: NDArray[np.uint8], boxes: FloatArray, side: int) -> list[NDArray[np.uint8]]:
    """Face, left and right hand of each frame, F of (3, S, S, 3); black where not in view."""
    black = np.zeros((side, side, 3), np.uint8)
    return [
        np.stack([square_crop(picture, box, side) if np.isfinite(box[0]) else black for box in around])
        for picture, around in zip(pictures, boxes, strict=True)
    ]


def with_networks(clip: Clip, pictures: NDArray[np.uint8], config: PeopleConfig) -> Clip:
    """The clip with speech states and latents, where the settings name networks."""
    if config.audio is not None:
        from train.prepare_networks import load_audio

        encoder = load_audio(config.audio)
        window = int(encoder.config.window)
        states = encoder.states(clip.waveform(context=True)).cpu().numpy().astype(np.float16)
        index = np.arange(-window, len(clip) + window) + int(clip.meta["sound_before"])
        clip = replace(
            clip, meta={**clip.meta, "audio_window": window}, audio_states=states[index.clip(0, len(states) - 1)]
        )
    if config.vae is not None:
        import torch

        from avatar.latents import encode
        from train.prepare_networks import load_vae

        vae = load_vae(config.vae)
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        latents = torch.cat([encode(vae, part.float() / 255).cpu() for part in images.split(4)])
        clip = replace(clip, latents=latents.numpy().astype(np.float16))
    return clip
