"""How each ARKit coefficient moves the points of a face mesh, in millimetres of an average face.

Letters: V = 478 mesh points, E = 51 coefficients, N lip points. Coordinates here are the face's own: x towards the
person's left, y up, z out of the face; a face is scaled so that the outer corners of its eyes are 88 mm apart. The
amounts follow the reference pictures of Apple's ARFaceAnchor.BlendShapeLocation and were set by looking at warped
photos. A shape says how far a few named points go ("handles"); the skin between follows by radial basis functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.keypoints import (
    LEFT_BROW,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    RIGHT_BROW,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
)
from pose.motion import EXPRESSION_NAMES, expression_index

Array = NDArray[np.float32]
Floats = NDArray[np.float64]

# Four rings of the lips from the inner to the outer edge, each from the person's right corner to the left one.
UPPER_LIP = np.array((
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308), (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306), (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
))  # fmt: skip
LOWER_LIP = np.array((
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308), (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306), (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
))  # fmt: skip
ALONG = np.linspace(-1, 1, 11)  # place along a lip: -1 the right corner, 1 the left one
ACROSS = np.linspace(0, 1, 4)  # ring of a lip: 0 the inner edge, 1 the outer one

# Skin above and below each eye, each row parallel to the lid and paired with the seven lid points between the corners.
LID_SKIN = {
    "Left": (
        (467, 260, 259, 257, 258, 286, 414), (342, 445, 444, 443, 442, 441, 413),
        (255, 339, 254, 253, 252, 256, 341), (261, 448, 449, 450, 451, 452, 453),
    ),
    "Right": (
        (247, 30, 29, 27, 28, 56, 190), (113, 225, 224, 223, 222, 221, 189),
        (25, 110, 24, 23, 22, 26, 112), (31, 228, 229, 230, 231, 232, 233),
    ),
}  # fmt: skip
LIDS = {"Left": (LEFT_EYE_UPPER, LEFT_EYE_LOWER), "Right": (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER)}
IRISES = {"Left": LEFT_IRIS, "Right": RIGHT_IRIS}
BROWS = {"Left": LEFT_BROW, "Right": RIGHT_BROW}

NOSE = (1, 4, 5, 195, 197, 6, 168, 2, 94, 98, 327)
NOSE_WINGS = {"Left": (278, 360, 420, 429, 358, 279), "Right": (48, 131, 198, 209, 129, 49)}
CHEEKS = {"Left": (280, 266, 330, 425), "Right": (50, 36, 101, 205)}
PUFFED = {"Left": (427, 411, 376, 433, 416, 434), "Right": (207, 187, 147, 213, 192, 214)}
CHIN = (152, 175, 199, 200, 18, 83, 313, 148, 377, 176, 400, 149, 378, 150, 379, 136, 365, 172, 397)
# Side of the jaw from the angle up to the ear: how much of the jaw's turn each height takes.
JAW_SIDE = ((0.9, (58, 288)), (0.55, (132, 361)), (0.2, (93, 323)), (0.0, (234, 454, 127, 356)))

JAW_ANGLE = 0.22  # radians at jawOpen 1: about 22 mm at the lower lip, 100 mm in front of the hinge
UPPER_LIFT = 0.12  # part of the jaw's way that the upper lip goes up
CORNER_DROP = 0.42  # part of the jaw's way that the corners of the mouth go down
LID_MEETING = 0.15  # where closed lids meet, from the lower lid in parts of the open eye


@dataclass(frozen=True)
class FaceShapes:
    """The moves of one face, all in mm of its own frame.

    `basis` (E, V, 3): linear part of each coefficient; `jaw` (V,): how much each point turns with the jaw; `jaw_turn`
    (V, 3): the way of each point at jawOpen 1 (in `basis` already, with the narrowing of the lips beside it);
    `lids` left, right -> (V, 3): from open to closed, the skin around included; `lip_skin` (V, 22): how the skin
    follows the two outer lip rings (upper, then lower).
    """

    basis: Floats
    jaw: Floats
    jaw_turn: Floats
    lids: dict[str, Floats]
    lip_skin: Floats


def spread(points: Floats, handles: Sequence[int], radius: float) -> Floats:
    """Weights (V, H) that carry values at H handle points to all V points, exact at the handles, 0 beyond `radius` mm.

    Wendland's C2 function: positive definite, so the solve never fails for distinct points.
    """

    def kernel(distance: Floats) -> Floats:
        near = np.clip(1 - distance / radius, 0, None)
        return near**4 * (4 * distance / radius + 1)

    chosen = points[list(handles)]
    gram = kernel(np.linalg.norm(chosen[:, None] - chosen[None], axis=-1)) + 1e-4 * np.eye(len(chosen))
    return np.linalg.solve(gram, kernel(np.linalg.norm(chosen[:, None] - points[None], axis=-1))).T


def moved(points: Floats, moves: dict[int, tuple[float, float, float]], still: Sequence[int], radius: float) -> Floats:
    """Field (V, 3) that carries the `moves` (mm) of named points to the others while `still` points stay."""
    handles = [*moves, *(index for index in still if index not in moves)]
    values = np.zeros((len(handles), 3))
    values[: len(moves)] = list(moves.values())
    return spread(points, handles, radius) @ values


def jaw_weights(points: Floats) -> Floats:
    """How much each point turns with the jaw, (V,): 1 chin and lower lip, 0 skull, slightly negative upper lip."""
    bow = np.abs(ALONG) ** 2.3  # an open mouth is a lens, a little fuller than a parabola
    upper = CORNER_DROP * bow - UPPER_LIFT * (1 - bow)
    lower = CORNER_DROP + (1 - CORNER_DROP) * (1 - bow)
    still = (*NOSE, *CHEEKS["Left"], *CHEEKS["Right"], *LIDS["Left"][1], *LIDS["Right"][1])
    values: dict[int, float] = dict.fromkeys(still, 0.0)
    values |= dict.fromkeys(CHIN, 1.0)
    for amount, indices in JAW_SIDE:
        values |= dict.fromkeys(indices, amount)
    values |= dict(zip(UPPER_LIP[3], upper, strict=True)) | dict(zip(LOWER_LIP[3], lower, strict=True))
    weights = spread(points, list(values), 60.0) @ np.array(list(values.values()))
    weights = np.clip(weights, -UPPER_LIFT, 1.0)
    weights[UPPER_LIP], weights[LOWER_LIP] = upper, lower
    return weights


def lip_skin_weights(points: Floats) -> Floats:
    """How skin follows the outer lip rings, (V, 22): 11 upper, 11 lower; corners count half in each; 0 on the lips."""
    handles = [*UPPER_LIP[3], *LOWER_LIP[3, 1:-1]]
    weights = spread(points, [*handles, *NOSE], 38.0)[:, : len(handles)]
    weights[np.concatenate([UPPER_LIP.ravel(), LOWER_LIP.ravel()])] = 0
    right, left = weights[:, :1] / 2, weights[:, 10:11] / 2
    return np.concatenate([right, weights[:, 1:10], left, right, weights[:, 11:], left], axis=1)


def build_shapes(points: Floats) -> FaceShapes:
    """The shapes of a face at rest, lips closed, `points` (V, 3) in mm of its own frame."""
    basis = np.zeros((len(EXPRESSION_NAMES), len(points), 3))
    jaw = jaw_weights(points)
    # The condyles slide forward while the jaw turns, so the axis lies behind and below the ears.
    hinge = points[[234, 454]].mean(axis=0) + (0, -35, -20)
    arm = points - hinge
    turn = np.stack([np.zeros(len(points)), -arm[:, 2], arm[:, 1]], axis=1)  # d/dangle of a turn about x, chin down
    jaw_turn = JAW_ANGLE * jaw[:, None] * turn
    lip_skin = lip_skin_weights(points)

    def lips(name: str, upper: Floats, lower: Floats) -> None:
        """Add moves of the lips, each broadcast to (4 rings, 11, 3), and let the skin follow their outer rings."""
        field = basis[expression_index(name)]
        upper, lower = (np.broadcast_to(side, (4, 11, 3)) for side in (upper, lower))
        field += lip_skin @ np.concatenate([upper[3], lower[3]])
        field[UPPER_LIP] += upper
        field[LOWER_LIP[:, 1:-1]] += lower[:, 1:-1]

    def way(x: float | Floats = 0.0, y: float | Floats = 0.0, z: float | Floats = 0.0) -> Floats:
        """A (4, 11, 3) lip move from parts that broadcast over rings and places."""
        return np.stack([np.broadcast_to(part, (4, 11)) for part in (x, y, z)], axis=-1).astype(np.float64)

    place, ring = ALONG[None], ACROSS[:, None]
    middle = 1 - np.abs(place) ** 3  # 1 at the middle of the lip, 0 at the corners
    narrow = -np.sign(place) * np.abs(place) ** 1.3  # towards the middle line

    basis[expression_index("jawOpen")] += jaw_turn
    lips("jawOpen", way(x=2.5 * narrow), way(x=2.5 * narrow))
    positive = np.clip(jaw, 0, 1)[:, None]
    basis[expression_index("jawForward")] += positive * (0, 1.0, 6.0)
    basis[expression_index("jawLeft")] += positive * (8.0, 0, 0)
    basis[expression_index("jawRight")] += positive * (-8.0, 0, 0)

    # Closing undoes what jawOpen 1 opens: the lips meet a third of the way from the upper one.
    opened = jaw_turn[LOWER_LIP[0], 1] - jaw_turn[UPPER_LIP[0], 1]
    lips("mouthClose", way(y=opened * 0.33 * (1 - 0.3 * ring)), way(y=-opened * 0.67 * (1 - 0.2 * ring)))
    lips("mouthFunnel", way(7 * narrow, 3.5 * middle + ring, 6), way(7 * narrow, -4.5 * middle - ring, 6))
    lips("mouthPucker", way(10.5 * narrow, 2 * middle * ring, 7), way(10.5 * narrow, -2 * middle * ring, 7))
    lips("mouthRollUpper", way(y=-3.5 * ring * middle - 0.5, z=-2), way())
    lips("mouthRollLower", way(), way(y=4.5 * ring * middle + 0.5, z=-2))
    lips("mouthShrugUpper", way(y=3 * (0.5 + 0.5 * middle), z=1), way())
    lips("mouthShrugLower", way(), way(y=4.5 * (0.4 + 0.6 * middle), z=2))
    chin_up = moved(points, dict.fromkeys((199, 200, 175), (0.0, 4.0, 1.0)), (*CHEEKS["Left"], *CHEEKS["Right"]), 30.0)
    chin_up[np.concatenate([UPPER_LIP.ravel(), LOWER_LIP.ravel()])] = 0
    basis[expression_index("mouthShrugLower")] += chin_up

    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        half = np.clip(0.5 + 1.2 * sign * place, 0, 1)  # 1 on this side of the mouth, 0 on the other
        corner, bend = half * np.abs(place) ** 1.15, half * np.abs(place) ** 1.8
        beside = half * np.clip(1 - (np.abs(place) - 0.4) ** 2 / 0.36, 0, 1)  # greatest between middle and corner

        lips(f"mouth{side}", way(x=8 * sign), way(x=8 * sign))
        pull = way(8 * sign * corner, 8 * bend, -3 * bend)
        lips(f"mouthSmile{side}", pull + way(y=-0.8 * ring * middle), pull + way(y=0.8 * ring * middle + bend))
        lips(f"mouthFrown{side}", way(0.5 * sign * corner, -6.5 * bend), way(0.5 * sign * corner, -6.5 * bend))
        pull = way(5 * sign * corner, bend, -3 * bend)
        lips(f"mouthDimple{side}", pull, pull)
        pull = way(7 * sign * corner, -2.5 * bend, -2 * bend)
        lips(f"mouthStretch{side}", pull + way(y=-0.5 * beside * ring), pull + way(y=-1.5 * beside))
        thin = 2.5 * half * ring * middle
        lips(f"mouthPress{side}", way(y=-1.2 * half * middle - thin), way(y=1.2 * half * middle + thin))
        lips(f"mouthLowerDown{side}", way(), way(0.5 * sign * beside, -7 * beside))
        lips(f"mouthUpperUp{side}", way(0.5 * sign * beside, 6.5 * beside), way())
        lips(f"noseSneer{side}", way(y=2.5 * beside), way())
        add_upper_face(basis, points, side, sign)

    lips("cheekPuff", way(z=2, x=narrow), way(z=2, x=narrow))
    puff = {}
    for indices in PUFFED.values():
        for index in indices:
            outwards = np.array([points[index, 0], 0, points[index, 2] + 60])
            puff[index] = tuple(6.5 * outwards / np.linalg.norm(outwards))
    rim = (*NOSE, *UPPER_LIP[3], *LOWER_LIP[3, 1:-1])
    basis[expression_index("cheekPuff")] += moved(points, puff, rim, 42.0)

    lids = {side: lid_closing(points, side) for side in ("Left", "Right")}
    return FaceShapes(basis, jaw, jaw_turn, lids, lip_skin)


def add_upper_face(basis: Floats, points: Floats, side: str, sign: float) -> None:
    """Brows, cheeks, nose wings and gaze of one side; lids need more than a sum and come apart from the basis."""
    brow, other = BROWS[side], BROWS["Right" if side == "Left" else "Left"]
    inner = np.tile(np.linspace(0, 1, 5), 2)  # both rows of a brow run from its outer to its inner end
    upper_lid, lower_lid = LIDS[side]
    fixed = (*upper_lid, *lower_lid, *NOSE[:5])

    def brows(name: str, x: Floats, y: Floats) -> None:
        moves = {index: (float(a), float(b), 0.0) for index, a, b in zip(brow, x, y, strict=True)}
        basis[expression_index(name)] += moved(points, moves, (*fixed, *other), 38.0)

    brows(f"browDown{side}", -2.0 * sign * inner, -2.0 - 3.0 * inner)
    brows("browInnerUp", 0.0 * inner, 7.0 * inner**1.5)
    brows(f"browOuterUp{side}", 0.5 * sign * (1 - inner), 6.5 * (1 - inner**2) + 1.0)

    cheek = dict.fromkeys(CHEEKS[side], (0.5 * sign, 4.0, 0.5))
    lid = dict.fromkeys(lower_lid[2:-2], (0.0, 1.6, 0.0)) | dict.fromkeys(LID_SKIN[side][2], (0.0, 2.4, 0.0))
    mouth = (*UPPER_LIP[3], *LOWER_LIP[3, 1:-1])
    basis[expression_index(f"cheekSquint{side}")] += moved(points, cheek | lid, (*mouth, *NOSE, *upper_lid), 30.0)
    lifted = dict.fromkeys(CHEEKS[side], (1.0 * sign, 3.0, 0.5))
    basis[expression_index(f"mouthSmile{side}")] += moved(
        points, lifted | dict.fromkeys(lower_lid[2:-2], (0.0, 0.6, 0.0)), (*mouth, *NOSE, *upper_lid), 30.0
    )
    wing = dict.fromkeys(NOSE_WINGS[side], (0.3 * sign, 3.0, 0.0)) | {brow[4]: (-sign, -1.5, 0.0)}
    basis[expression_index(f"noseSneer{side}")] += moved(points, wing, (*mouth, *NOSE, *upper_lid, *lower_lid), 22.0)

    # An eyeball of 12 mm radius turned by 27 degrees sideways, 20 degrees up and down.
    for name, x, y in (("In", -sign, 0.0), ("Out", sign, 0.0), ("Up", 0.0, 1.0), ("Down", 0.0, -1.0)):
        basis[expression_index(f"eyeLook{name}{side}"), list(IRISES[side])] += (5.5 * x, 4.2 * y, 0)


def lid_closing(points: Floats, side: str) -> Floats:
    """The way of lids and the skin around them from the eye as it is to closed, (V, 3): at 1 the lids meet."""
    upper, lower = (list(lid[1:-1]) for lid in LIDS[side])
    gap = points[lower] - points[upper]
    field = np.zeros_like(points)
    field[upper] = (1 - LID_MEETING) * gap
    field[lower] = -LID_MEETING * gap
    above, brow_skin, below, cheek_skin = (list(row) for row in LID_SKIN[side])
    field[above], field[brow_skin] = 0.55 * field[upper], 0.2 * field[upper]
    field[below], field[cheek_skin] = 0.6 * field[lower], 0.25 * field[lower]
    return field
