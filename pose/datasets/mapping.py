"""Motion of a dataset's skeleton onto the home skeleton, joint by joint with the same name.

Letters: F frames, J joints. Bones keep their directions in space: where a bone at rest points elsewhere than at home,
its joint is turned by the shortest rotation between the two. How a bone is twisted about itself is taken as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.motion import Motion
from pose.rotations import normalized, rotation_between
from pose.skeleton import Skeleton

Double = NDArray[np.float64]

_OTHER_NAMES = {f"{side}Arm1": f"{side}ForeArm" for side in ("Left", "Right")}  # BEAT's own name
# Which child shows where a joint points; other joints point to their only child.
_MAIN = {"Hips": "Spine", "Spine3": "Neck"} | {f"{side}Hand": f"{side}HandMiddle1" for side in ("Left", "Right")}
_STRAIGHT = 1e-3  # radians: bones that differ by less are the same


def on_home(motion: Motion, required: tuple[str, ...] = ("Hips", "Head", "LeftHand", "RightHand")) -> Motion:
    """The same movement on the home skeleton; ValueError lists `required` joints that are missing.

    Joints that the motion lacks follow their parents. The root's path is scaled by the length of the legs, so that
    feet stay on the floor; joints whose names home does not have are left out.
    """
    home, source = Skeleton.home(), motion.skeleton
    names = [_OTHER_NAMES.get(name, name) for name in source.names]
    missing = [name for name in required if name not in names]
    if missing:
        raise ValueError(f"the skeleton lacks {len(missing)} needed joints: {', '.join(missing[:8])}")
    same = tuple(names) == home.names and source.parents == home.parents and motion.translations is None
    if same and np.allclose(source.offsets[1:], home.offsets[1:], atol=1e-4):
        return Motion(motion.fps, home, motion.rotations, motion.root_position, motion.expression)
    world = source.global_rotations(motion.rotations)
    ours, theirs = _rest(home, list(home.names)), _rest(source, names)
    result = np.empty((len(motion), len(home), 3, 3))
    for joint, name in enumerate(home.names):
        parent = home.parents[joint]
        if name not in names:
            result[:, joint] = result[:, parent]
            continue
        own = world[:, names.index(name)]
        child = next((c for c in _children(home, joint) if home.names[c] in names), None)
        if child is not None:
            start = normalized(ours[child] - ours[joint])
            end = normalized(theirs[names.index(home.names[child])] - theirs[names.index(name)])
            if np.arccos(np.clip(start @ end, -1, 1)) > _STRAIGHT:
                own = own @ rotation_between(start, end)
        elif parent >= 0 and home.names[parent] in names:  # a tip: as its parent was turned
            back = np.swapaxes(world[:, names.index(home.names[parent])], -1, -2)
            own = result[:, parent] @ back @ own
        result[:, joint] = own
    scale = _leg(ours, list(home.names)) / _leg(theirs, names) if "LeftFoot" in names else 1.0
    return Motion(
        motion.fps,
        home,
        home.local_rotations(result).astype(np.float32),
        (scale * motion.root_position).astype(np.float32),
        motion.expression,
    )


def _children(skeleton: Skeleton, joint: int) -> list[int]:
    """The main child first."""
    children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
    main = _MAIN.get(skeleton.names[joint])
    return sorted(children, key=lambda child: skeleton.names[child] != main)


def _rest(skeleton: Skeleton, names: list[str]) -> Double:
    """(J, 3) places of the joints at rest, cm from the root."""
    assert len(names) == len(skeleton)
    return skeleton.forward_kinematics(skeleton.rest_rotations(1), np.zeros((1, 3)))[0][0]


def _leg(rest: Double, names: list[str]) -> float:
    chain = [rest[names.index(f"Left{part}")] for part in ("UpLeg", "Leg", "Foot")]
    return float(np.linalg.norm(np.diff(chain, axis=0), axis=-1).sum())
