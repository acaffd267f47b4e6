"""The 51 ARKit coefficients as displacements of the base mesh, from MakeHuman's expression units.

Letters: E = 51 coefficients, V base vertices. Units are additive displacements that the files give for the whole
mouth; sides are cut from them by a soft mask across the middle of the face, upper and lower lip by which lip's own
volume target moves a vertex. Amounts were set by hand on renders, against the reference pictures of Apple's
ARFaceAnchor.BlendShapeLocation.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pose.motion import EXPRESSION_NAMES, expression_index
from train.people.base import BaseMesh
from train.people.meshes import Array

JAW_DROP = 0.19  # decimetres that the middle of the lower lip goes down at jawOpen 1; pose.face_shapes: 22 mm
MIDDLE = 0.12  # decimetres to each side of the middle over which one side passes into the other
CLOSE_UPPER = 0.3  # of the gap of the opened lips that the upper lip closes; the lower one does the rest

# coefficient -> unit or target: amount. "Left"/"Right" are filled in for names that end in "*".
WHOLE: dict[str, dict[str, float]] = {
    "mouthFunnel": {"mouth-pursing": 0.55, "mouth-eversion": 0.5, "mouth-protusion": 0.25},
    "mouthPucker": {"mouth-pursing": 1.0, "mouth-protusion": 0.2},
    "browInnerUp": {"eyebrows-left-inner-up": 1.0, "eyebrows-right-inner-up": 1.0},
    "cheekPuff": {"cheek/l-cheek-volume-incr": 1.0, "cheek/r-cheek-volume-incr": 1.0},
    "jawForward": {"chin/chin-prominent-incr": 0.5},
}
SIDED: dict[str, dict[str, float]] = {
    "mouthSmile": {"mouth-corner-puller": 1.0},
    "mouthStretch": {"mouth-retraction": 0.7},
    "mouthDimple": {"mouth-retraction": 0.5, "mouth-corner-puller": 0.2},
    "mouthFrown": {"mouth-depression": 0.8},
    "mouthPress": {"mouth-compression": 0.7},
    "mouthUpperUp": {"mouth-upward-retraction": 0.35},
    "mouthLowerDown": {"mouth-depression-retraction": 0.4},
    "cheekSquint": {"cheek/*-cheek-trans-up": 0.35, "eye-*-slit": 0.25},
    "eyeBlink": {"eye-*-closure": 1.0},
    "eyeSquint": {"eye-*-slit": 0.8},
    "eyeWide": {"eye-*-opened-up": 0.9},
    "browDown": {"eyebrows-*-down": 0.8},
    "browOuterUp": {"eyebrows-*-extern-up": 0.5, "eyebrows-*-up": 0.5},
    "noseSneer": {"nose-*-elevation": 0.9},
}
# Upper or lower lip of a unit alone.
LIPS: dict[str, tuple[str, dict[str, float]]] = {
    "mouthRollUpper": ("upper", {"mouth-compression": 1.0}),
    "mouthRollLower": ("lower", {"mouth-compression": 1.0}),
    "mouthShrugUpper": ("upper", {"mouth-elevation": 0.6}),
    "mouthShrugLower": ("lower", {"mouth-elevation": 0.8}),
}


def lip_masks(body: BaseMesh) -> tuple[Array, Array]:
    """(V,) in [0, 1] each: how much a vertex belongs to the upper and to the lower lip, the skin around included."""
    upper = body.mask(["mouth/mouth-upperlip-volume-incr", "mouth/mouth-upperlip-height-incr"])
    lower = body.mask(["mouth/mouth-lowerlip-volume-incr", "mouth/mouth-lowerlip-height-incr"])
    return np.clip(2.0 * upper, 0, 1), np.clip(2.0 * lower, 0, 1)


def expression_basis(body: BaseMesh, units: str = "caucasian") -> Array:
    """(E, V, 3) decimetres: what each coefficient adds to the vertices of the body at rest."""
    basis = np.zeros((len(EXPRESSION_NAMES), len(body.points), 3))
    known: dict[str, Array] = {}

    def moved(parts: dict[str, float], side: str = "") -> Array:
        total = np.zeros_like(body.points)
        for name, amount in parts.items():
            letter = side[:1].lower() if "/" in name else side.lower()
            path = name.replace("*", letter)
            path = path if "/" in path else f"expression/units/{units}/{path}"
            if path not in known:
                known[path] = body.target(path)
            total += amount * known[path]
        return total

    # 1. Jaw, scaled to one drop for every face; closing lips undoes their part of it and leaves the jaw open.
    upper, lower = lip_masks(body)
    opened = moved({"mouth-open": 1.0})
    middle = np.abs(body.points[:, 0]) < MIDDLE
    drop = -np.quantile(opened[(lower > 0.6) & middle, 1], 0.2)
    opened *= JAW_DROP / drop
    basis[expression_index("jawOpen")] = opened
    gap = np.clip(-opened[:, 1], 0, None)
    # The skin and the lining around the lower lip come along, or the lining would show below it.
    away, _ = cKDTree(body.points[lower > 0.5]).query(body.points)
    along = np.clip(1.3 - away / 0.22, 0, 1)
    close = np.zeros_like(opened)
    close[:, 1] = along * (1 - CLOSE_UPPER) * gap - upper * CLOSE_UPPER * JAW_DROP * lip_middle(body)
    close[:, 2] = -along * (1 - CLOSE_UPPER) * opened[:, 2]  # the jaw took the lip back
    basis[expression_index("mouthClose")] = close
    jaw = np.clip(gap / JAW_DROP, 0, 1)[:, None]
    basis[expression_index("jawLeft")] = jaw * (0.08, 0, 0)
    basis[expression_index("jawRight")] = jaw * (-0.08, 0, 0)

    # 2. The rest from units.
    for name, parts in WHOLE.items():
        basis[expression_index(name)] = moved(parts)
    across = np.clip(0.5 + 0.5 * body.points[:, 0] / MIDDLE, 0, 1)[:, None]
    for name, parts in SIDED.items():
        for side, share in (("Left", across), ("Right", 1 - across)):
            basis[expression_index(name + side)] = moved(parts, side) * share
    for name, (lip, parts) in LIPS.items():
        basis[expression_index(name)] = moved(parts) * (upper if lip == "upper" else lower)[:, None]
    # Brows do not pull the skin under the hair along.
    forehead = np.clip((body.head("eye.L")[1] + 0.85 - body.points[:, 1]) / 0.35, 0, 1)[:, None]
    for name in EXPRESSION_NAMES:
        if name.startswith("brow"):
            basis[expression_index(name)] *= forehead
    mouth = np.maximum(upper, lower)[:, None]
    basis[expression_index("mouthLeft")] = mouth * (0.07, 0, 0)
    basis[expression_index("mouthRight")] = mouth * (-0.07, 0, 0)
    return basis


def lip_middle(body: BaseMesh) -> Array:
    """(V,) in [0, 1]: 1 in the middle of the mouth, 0 at its corners."""
    upper, _ = lip_masks(body)
    width = np.abs(body.points[upper > 0.5, 0]).max()
    return np.clip(1 - (np.abs(body.points[:, 0]) / width) ** 3, 0, 1)
