"""The pose of the person in a photo as motion: what a gesture model goes on from.

Axes of the home skeleton: x to the person's left, y up, z to the front.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.body_signals import TO_IMAGE, find_joints
from pose.motion import Motion
from pose.photo_body import HELD, PhotoBody
from pose.rotations import axis_angle_to_matrix, rotation_between


def photo_motion(body: PhotoBody, rest: Motion) -> Motion:
    """One frame: `rest`'s first frame with the arms that the photo shows in full where the photo has them.

    Trunk, head, fingers and arms that are not shown stay `rest`'s, such as a model's mean pose. Twist about the bones
    is the shortest way from there. ValueError when the skeleton of `rest` is not known.
    """
    pose = rest[:1]
    skeleton = pose.skeleton
    arms, _, _ = find_joints(skeleton)
    rotations = pose.rotations.astype(np.float64)

    def kinematics() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        positions, world = skeleton.forward_kinematics(rotations, pose.root_position, pose.translations)
        return positions[0], world[0]

    positions, _ = kinematics()
    line = positions[arms[0, 1]] - positions[arms[1, 1]]
    heading = axis_angle_to_matrix([0.0, -np.arctan2(line[2], line[0]), 0.0])  # where the shoulders face
    for side, (_, arm, forearm, hand) in enumerate(arms):
        if body.reach[side] < HELD:
            continue
        elbow, wrist = body.arms[side] @ TO_IMAGE  # the change of axes is its own inverse
        for joint, end, wanted in ((arm, forearm, elbow), (forearm, hand, wrist - elbow)):
            positions, world = kinematics()
            turn = rotation_between(positions[end] - positions[joint], heading @ wanted)
            rotations[0, joint] = world[skeleton.parents[joint]].T @ turn @ world[joint]
    return replace(pose, rotations=rotations.astype(np.float32))
