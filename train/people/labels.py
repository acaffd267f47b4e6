"""Exact labels of a rendered frame: the 543 keypoints, their depth, and how much of each is in view.

Letters: F frames, K = 543 keypoints, V base vertices. Joints come from the rig, the face from points tied to the base
mesh, the irises from the eyeballs. Conventions are `pose.keypoints`'s and the detector's, so that models trained on
these labels meet the same at inference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pose.keypoints import BODY_NAMES, COUNT, FACE, HANDS, LEFT_IRIS, RIGHT_IRIS
from train.people.face_mesh import attachments
from train.people.figure import Figure
from train.people.meshes import Array
from train.people.puppet import skin, unit
from train.people.raster import Camera

FloatArray = NDArray[np.float32]

IRIS_RIM = 0.54  # sine of the iris's angle from the gaze, as `shaders` draws it
# Body points from the ends of bones; nose, eyes and ears from the face mesh as the detector has them.
BODY_BONES = {
    "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "hip": "upperleg01", "knee": "lowerleg01",
    "ankle": "foot", "heel": "foot", "big_toe": "toe1-1", "small_toe": "toe5-1",
}  # fmt: skip
FROM_FACE = {"nose": 4, "left_eye": 473, "right_eye": 468, "left_ear": 454, "right_ear": 234}
# The detector's joints lie off the rig's by these decimetres (medians over 12 frames of six people, docs/people.md):
SHOULDER_UP, SHOULDER_IN = 0.34, 0.07
HIP_UP, HIP_IN = 0.50, 0.13
WRIST_BACK, THUMB_BACK = 0.17, 0.12  # from the knuckles towards the elbow
HEAD_MIDDLE = 0.08  # shoulder widths that its middle of the head is in front of the ears
# How far behind the surface a point may lie and still count as seen, decimetres: joints lie inside.
THICKNESS = {"body": 1.1, "hand": 0.22, "face": 0.12}
HIDDEN = 0.5  # confidence of a point that something hides; above what `avatar.conditions` counts as known
OUTSIDE = 0.2  # factor beyond the picture's border, as pose.person has it


class Labeller:
    """Labels of one figure. `frame` gives world points, `project` turns them into the clip's arrays."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        vertices, self._shares = attachments()
        used, place = np.unique(vertices, return_inverse=True)
        self._used, self._corners = used, place.reshape(vertices.shape)
        self._weights: csr_matrix = figure.bare_weights[used]
        self._basis = figure.basis[:, used].reshape(len(figure.basis), -1)

    def points(self, transforms: Array, expression: FloatArray) -> Array:
        """(K, 3) decimetres in the world, for bone transforms (J, 3, 4) and an expression (E,)."""
        figure, puppet = self.figure, self.figure.puppet
        result = np.zeros((COUNT, 3))

        def bone(name: str, end: bool = False) -> Array:
            return puppet.place(transforms[None], name, end)[0]

        # 1. Face: the surface, then the irises: middle, and rim to the right of the picture, up, left, down.
        rest = figure.body.points[self._used] + (expression.astype(np.float64) @ self._basis).reshape(-1, 3)
        rest = figure.clear_of_eyes(rest)
        posed = skin(rest, self._weights, transforms)
        result[FACE][:468] = np.einsum("pk,pkd->pd", self._shares, posed[self._corners])
        depth = np.sqrt(1 - IRIS_RIM**2)
        rim = np.array([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)]) * IRIS_RIM
        ways = np.concatenate([rim, np.full((5, 1), depth)], 1)
        ways[0] = 0, 0, 1
        for side, indices, (middle, radius) in zip("LR", (LEFT_IRIS, RIGHT_IRIS), figure.balls, strict=True):
            turn = transforms[puppet.index[f"eye.{side}"]]
            result[FACE][list(indices)] = (middle + radius * ways) @ turn[:, :3].T + turn[:, 3]
        # 2. Body and hands.
        for number, name in enumerate(BODY_NAMES):
            if name in FROM_FACE:
                result[number] = result[FACE.start + FROM_FACE[name]]
                continue
            side, _, part = name.partition("_")
            inwards = -1.0 if side == "left" else 1.0
            result[number] = bone(f"{BODY_BONES[part]}.{side[0].upper()}")
            if part == "shoulder":
                turn = transforms[puppet.index[f"clavicle.{side[0].upper()}"], :, :3]
                result[number] += turn @ (SHOULDER_IN * inwards, SHOULDER_UP, 0)
            elif part == "hip":
                result[number] += transforms[puppet.index["root"], :, :3] @ (HIP_IN * inwards, HIP_UP, 0)
        for side, place in zip("LR", HANDS.values(), strict=True):
            hand = [bone(f"wrist.{side}")]
            for finger in range(1, 6):
                hand += [bone(f"finger{finger}-{joint}.{side}") for joint in (1, 2, 3)]
                hand.append(bone(f"finger{finger}-3.{side}", end=True))
            back = unit(hand[0] - hand[9])
            hand[0] = hand[0] + WRIST_BACK * back
            hand[1] = hand[1] + THUMB_BACK * back
            result[place] = hand
        result[[9, 10]] = result[[part.start for part in HANDS.values()]]
        return result

    def project(self, points: Array, camera: Camera, depth: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Pixels (K, 2), depth (K,) pixels and confidence (K,) of points (K, 3) in a frame with a depth map (H, W).

        Depth is relative to the middle of the hips (body), the wrist (hands) or the middle of the head (face), in
        pixels, positive away from the camera, as `pose.keypoints.Detection` has it.
        """
        flat, away = camera.project(points)
        height, width = camera.size
        inside = (flat >= 0).all(-1) & (flat[:, 0] < width) & (flat[:, 1] < height)
        column, row = (np.clip(flat[:, k].astype(int), 0, (width, height)[k] - 1) for k in (0, 1))
        thick = np.full(COUNT, THICKNESS["body"])
        thick[FACE] = THICKNESS["face"]
        for part in HANDS.values():
            thick[part] = THICKNESS["hand"]
        thick[9:11] = 0.5
        seen = away < depth[row, column] + thick
        confidence = np.where(seen, 1.0, HIDDEN) * np.where(inside, 1.0, OUTSIDE)
        scale = height / camera.span  # pixels a decimetre at the target
        origin = np.zeros(COUNT)
        origin[:23] = away[11:13].mean()
        ears = away[[FACE.start + 454, FACE.start + 234]].mean()
        origin[FACE] = ears - HEAD_MIDDLE * np.linalg.norm(points[5] - points[6])
        for part in HANDS.values():
            origin[part] = away[part.start]
        return (
            flat.astype(np.float32),
            ((away - origin) * scale).astype(np.float32),
            confidence.astype(np.float32),
        )
