"""What the face and the hands need besides the base mesh: colour masks, nails, and the eye's picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from presenter.hair import vertex_normals
from presenter.human import Array, Human, unit


def nails(human: Human) -> Array:
    """(V,) in [0, 1]: the back of the last phalanx of each finger, at rest."""
    body = [face for face, group in zip(human.mesh.faces, human.mesh.groups, strict=True) if group == "body"]
    normals = vertex_normals(human.points, body)
    mask = np.zeros(len(human.points))
    for side, sign in (("L", 1.0), ("R", -1.0)):
        index, little, wrist = (human.head(f"{bone}.{side}") for bone in ("finger2-1", "finger5-1", "wrist"))
        palm = -sign * unit(np.cross(index - wrist, little - wrist))
        for number in range(1, 6):
            bone = f"finger{number}-3.{side}"
            start, along = human.head(bone), human.tail(bone) - human.head(bone)
            back = -palm if number > 1 else -unit(np.cross(np.cross(along, index - start), along))
            share = ((human.points - start) @ along) / (along @ along)
            mine = (human.weights[:, human.index[bone]] > 0.5) & (share > 0.55)
            mask[mine] = np.clip((normals[mine] @ back - 0.55) / 0.2, 0, 1)
    return mask


def finger_band(human: Human, bone: str, share: float, width: float) -> Array:
    """(V,) in [0, 1]: a ring around a phalanx at a share of its length, `width` decimetres wide."""
    start, along = human.head(bone), human.tail(bone) - human.head(bone)
    offset = (human.points - start) @ unit(along) - share * np.linalg.norm(along)
    near = np.linalg.norm(human.points - start - share * along, axis=1) < 0.16
    return near * np.exp(-((offset / width) ** 2))


def masks(human: Human) -> dict[str, Array]:
    """Lips, blush (cheeks, nose tip, knuckles, ears) and nails by vertex of the morphed base mesh at rest."""
    lip = human.mask(["mouth/mouth-lowerlip-volume-incr", "mouth/mouth-upperlip-volume-incr"])
    cheek = 0.55 * human.mask(["cheek/l-cheek-volume-incr", "cheek/r-cheek-volume-incr"]) ** 1.3
    nose = 0.45 * human.mask(["nose/nose-point-up"]) ** 1.2
    ears = 0.4 * human.mask(["ears/l-ear-scale-incr", "ears/r-ear-scale-incr"])
    knuckles, crease = np.zeros((2, len(human.points)))
    for side in "LR":
        for number in range(1, 6):
            for joint in (1, 2, 3):
                away = np.linalg.norm(human.points - human.head(f"finger{number}-{joint}.{side}"), axis=1)
                knuckles = np.maximum(knuckles, 0.20 * np.exp(-((away / 0.13) ** 2)))
                crease = np.maximum(crease, finger_band(human, f"finger{number}-{joint}.{side}", 0.0, 0.028))
            tip = np.linalg.norm(human.points - human.tail(f"finger{number}-3.{side}"), axis=1)
            knuckles = np.maximum(knuckles, 0.42 * np.exp(-((tip / 0.16) ** 2)))
    return {
        "lip": np.clip(lip * 2.2 - 0.25, 0, 1),
        "cheek": np.max([cheek, nose, ears, knuckles], 0),
        "nail": nails(human),
        "crease": crease,
    }


def recolour_eye(source: Path, target: Path, iris: tuple[float, float, float]) -> None:
    """Write the assets' eye picture with another iris colour, a darker limbal ring and a softer white."""
    picture = np.asarray(Image.open(source).convert("RGB"), float) / 255
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    for x, y in ((722, 305), (297, 727)):  # the two irises, radius about 124, measured on the picture
        radius = np.hypot(columns - x, rows - y)
        inside = (np.clip((124 - radius) / 8, 0, 1) * np.clip((radius - 36) / 6, 0, 1))[..., None]
        light = picture.max(-1) + 0.6 * picture[..., 1]
        ring = np.clip((118 - radius) / 18, 0.15, 1) * (1 + 0.5 * np.clip((80 - radius) / 40, 0, 1))
        coloured = np.clip((light * ring)[..., None] * np.array(iris) * 2.9 + 0.02, 0, 1)
        picture = picture * (1 - inside) + coloured * inside
        pupil = np.clip((40 - radius) / 4, 0, 1)[..., None]
        picture = picture * (1 - pupil) + 0.008 * pupil
        white = (0.5 * np.clip((radius - 124) / 6, 0, 1) * (radius < 300))[..., None]
        picture = picture * (1 - white) + white * np.array([0.93, 0.915, 0.905])
    Image.fromarray((picture * 255).astype(np.uint8)).save(target)
