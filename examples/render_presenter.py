"""Render presenter.png from the MakeHuman CC0 assets with Blender's Cycles.

    python examples/render_presenter.py ASSETS [--output examples/presenter.png] [--size 1024] [--samples 40]

ASSETS is a folder with `makehuman/` (the application's data) and `base/` (clothes, hair, eyebrows) as published, under
CC0, by makehumancommunity.org. Needs Python 3.11 with `pip install bpy==5.0.1 numpy scipy pillow`; no graphics card.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from presenter import backdrop, face, garment, hair, materials, scene
from presenter.human import Array, Human, Mesh, components, part, to_blender, turn
from presenter.pose import Arm, arm_rotations
from scipy.spatial import cKDTree

MACRO = {
    "macrodetails/caucasian-female-young": 0.68,
    "macrodetails/asian-female-young": 0.27,
    "macrodetails/caucasian-male-young": 0.05,
    "macrodetails/universal-female-young-averagemuscle-averageweight": 0.45,
    "macrodetails/universal-female-young-minmuscle-averageweight": 0.30,
    "macrodetails/universal-female-young-minmuscle-minweight": 0.25,
}
DETAIL = {
    "eyes/l-eye-scale-incr": 0.95,
    "eyes/r-eye-scale-incr": 0.95,
    "head/head-scale-vert-incr": 0.40,
    "head/head-scale-horiz-incr": 0.20,
    "head/head-scale-depth-incr": 0.35,
    "head/head-oval": 0.7,
    "head/head-invertedtriangular": 0.35,
    "head/head-fat-decr": 0.35,
    "forehead/forehead-scale-vert-decr": 0.35,
    "chin/chin-width-decr": 0.45,
    "chin/chin-height-decr": 0.2,
    "ears/l-ear-wing-decr": 1.0,
    "ears/r-ear-wing-decr": 1.0,
    "ears/l-ear-scale-decr": 0.8,
    "ears/r-ear-scale-decr": 0.8,
    "nose/nose-scale-horiz-decr": 0.35,
    "nose/nose-scale-vert-decr": 0.2,
    "nose/nose-point-up": 0.2,
    "mouth/mouth-scale-horiz-incr": 0.15,
    "mouth/mouth-upperlip-volume-incr": 0.2,
    "neck/neck-scale-horiz-decr": 0.3,
    "neck/neck-scale-vert-incr": 0.15,
    "torso/torso-scale-horiz-decr": 0.45,
    "torso/torso-scale-depth-decr": 0.2,
    "armslegs/l-upperarm-fat-decr": 0.6,
    "armslegs/r-upperarm-fat-decr": 0.6,
    "armslegs/l-upperarm-shoulder-muscle-decr": 0.5,
    "armslegs/r-upperarm-shoulder-muscle-decr": 0.5,
}
SMILE = {
    "mouth-corner-puller": 0.88,
    "eyebrows-left-up": 0.45,
    "eyebrows-right-up": 0.45,
    "eyebrows-left-inner-up": 0.45,
    "eyebrows-right-inner-up": 0.45,
    "eye-left-opened-up": 0.15,
    "eye-right-opened-up": 0.15,
}
LEFT = Arm((0.42, -1, 0.04), (0.30, 0.46, 0.80), (0.26, 0.90, 0.32), (-0.72, 0.06, 1), (1, -6, -6, -8), 4.0)
RIGHT = Arm((0.42, -1, 0.04), (0.27, 0.36, 0.80), (0.24, 0.90, 0.36), (-0.78, 0.06, 1), (-3, -9, -9, -11), 4.0)
SKIN, LIP, FLUSH = (0.66, 0.385, 0.275), (0.50, 0.140, 0.135), (0.70, 0.265, 0.200)
HAIR, HAIR_TIP = (0.024, 0.0100, 0.0044), (0.055, 0.022, 0.0090)
IRIS = (0.36, 0.22, 0.11)
KNIT, TROUSERS = (0.045, 0.165, 0.185), (0.02, 0.024, 0.035)
SPAN, EYES_BELOW_TOP = 0.88, 0.25  # metres of the picture's height, share of it above the eyes


def build(assets: Path, scratch: Path, strands: int, drape_frames: int, span: float) -> None:
    """Fill Blender's scene with the person in the studio; `span` is the picture's height in metres."""
    scene.clear()
    rng = np.random.default_rng(7)
    human, masks = make_person(assets)
    posed = human.skin(human.points, human.weights)
    body_faces = [f for f, group in zip(human.mesh.faces, human.mesh.groups, strict=True) if group == "body"]
    smooth = scene.add_mesh("smooth", posed, body_faces, subdivide=1)
    points, faces = scene.evaluated_points(smooth)
    surface = hair.Surface(points, hair.vertex_normals(points, faces))
    bpy.data.objects.remove(smooth)
    add_clothed_body(human, posed, masks, drape_frames)
    add_eyes_and_brows(human, scratch, surface, body_faces, rng)

    place = to_blender(posed)
    start, normals = hair.roots(place, body_faces, masks["scalp"], strands, rng)
    head = hair.find_head(human, place, body_faces)
    grown = hair.grow_long(start, normals, surface, head, 0.032, head.eye - 0.175, 0.020, 0.066, rng)
    scene.add_strands("hair", grown, 0.00016, 0.00006, materials.hair(HAIR, HAIR_TIP))
    backdrop.paint(scratch / "backdrop.png")
    scene.studio(head.eye, span, EYES_BELOW_TOP, scratch / "backdrop.png")


def make_person(assets: Path) -> tuple[Human, dict[str, Array]]:
    """The morphed and posed person, and the colour masks of the skin by base vertex."""
    human = Human(assets)
    for target, amount in {**MACRO, **DETAIL}.items():
        human.morph(target, amount)
    slim_hips(human)
    scalp = hair.scalp_mask(human)  # before the smile, which lifts the brows and would lift the hairline
    for target, amount in SMILE.items():
        human.morph(f"expression/units/caucasian/{target}", amount)
    rotations = {**arm_rotations(human, "L", LEFT), **arm_rotations(human, "R", RIGHT)}
    rotations["head"] = turn((0, 1, 0), 4) @ turn((0, 0, 1), -2.5) @ turn((1, 0, 0), -1)
    for side in "LR":
        rotations[f"eye.{side}"] = turn((1, 0, 0), 2.0)  # at the camera, whatever the head does
    human.pose(rotations)
    return human, {**face.masks(human), "scalp": scalp}


def add_clothed_body(human: Human, posed: Array, masks: dict[str, Array], drape_frames: int) -> None:
    mesh = human.mesh
    clothes = human.fit(human.assets / "base/clothes/male_casualsuit02/male_casualsuit02.mhclo")
    parts = components(clothes)
    upper = parts[np.argmax([clothes.points[f, 1].mean() for f in clothes.faces])]
    sweater, trousers = part(clothes, parts == upper), part(clothes, parts != upper)
    # Clothes hide the skin below them, except at the wrists, where a cuff would show a hole.
    hidden = np.zeros(len(posed), bool)
    hidden[list(clothes.hidden)] = True
    wrists = [human.index[f"{bone}.{side}"] for bone in ("wrist", "lowerarm02") for side in "LR"]
    hidden[human.weights[:, wrists].sum(1) > 0.4] = False
    near = [sweater_reach(human, f) and g == "body" for f, g in zip(mesh.faces, mesh.groups, strict=True)]
    under = replace(part(mesh, np.array(near)), points=human.points)
    garment.drape(human, sweater, under, materials.knit(KNIT), frames=drape_frames)
    add_part(human, "trousers", trousers, [materials.fabric(TROUSERS)], subdivide=1)
    shown = [i for i, group in enumerate(mesh.groups) if group == "body" and not hidden[mesh.faces[i]].all()]
    scene.add_mesh(
        "body",
        posed,
        [mesh.faces[i] for i in shown],
        mesh.uv,
        [mesh.uv_faces[i] for i in shown],
        [materials.skin(SKIN, LIP, FLUSH, HAIR)],
        attributes=masks,
        subdivide=2,
    )


def add_eyes_and_brows(
    human: Human, scratch: Path, surface: hair.Surface, body_faces: list[list[int]], rng: np.random.Generator
) -> None:
    """Eyes, teeth, brows and lashes."""
    face.recolour_eye(human.data / "eyes/materials/brown_eye.png", scratch / "eye.png", IRIS)
    eyes = human.fit(human.data / "eyes/high-poly/high-poly.mhclo")
    cornea = [int(eyes.uv[f[0], 0] > 0.86 and eyes.uv[f[0], 1] < 0.14) for f in eyes.uv_faces]
    add_part(human, "eyes", eyes, list(materials.eye(scratch / "eye.png")), 1, material_index=cornea)
    teeth = human.fit(human.assets / "base/teeth/teeth_base/teeth_base.mhclo")
    add_part(human, "teeth", teeth, [materials.plain("teeth", (0.85, 0.8, 0.72), 0.3, 0.2)], 1)
    card = human.fit(human.assets / "base/eyebrows/eyebrow010/eyebrow010.mhclo")
    brow_points = to_blender(human.skin(card.points, card.weights))
    dark = (0.6 * HAIR[0], 0.6 * HAIR[1], 0.6 * HAIR[2])
    brows = hair.brows(brow_points, np.sign(card.points[:, 0]), surface, 0.12, rng)
    scene.add_strands("brows", brows, 0.00011, 0.00004, materials.hair(dark, dark))
    lashes = human.fit(human.assets / "base/eyelashes/eyelashes01/eyelashes01.mhclo")
    lid = np.unique([i for f in body_faces for i in f])
    away = cKDTree(human.points[lid]).query(lashes.points)[0]
    lower = lashes.points[:, 1] < human.head("eye.L")[1]
    fade = {"lash": np.clip(1.25 - 2 * away / away.max(), 0, 1) * np.where(lower, 0.4, 1.0)}
    add_part(human, "lashes", lashes, [materials.lashes()], 1, attributes=fade)


def slim_hips(human: Human) -> None:
    """Narrow the body below the waist, where the straight cut of the sweater would flare like a skirt."""
    x, y = human.points[:, 0], human.points[:, 1]
    share = np.clip((2.6 - y) / 2.2, 0, 1)
    trunk = np.clip((2.7 - np.abs(x)) / 0.5, 0, 1)  # the hands hang beside the hips at rest
    human.points[:, 0] = x * (1 - 0.17 * share**2 * (3 - 2 * share) * trunk)


def sweater_reach(human: Human, face_vertices: list[int]) -> bool:
    """Whether a face of the body can touch the sweater: neither head, legs nor fingers."""
    x, y, _ = human.points[face_vertices].mean(0)
    return -1.5 < y < 6.0 and abs(x) < abs(human.head("finger3-1.L")[0])


def add_part(human: Human, name: str, mesh: Mesh, surfaces: list, subdivide: int, **rest: Any) -> None:
    points = human.skin(mesh.points, mesh.weights)
    scene.add_mesh(name, points, mesh.faces, mesh.uv, mesh.uv_faces, surfaces, subdivide=subdivide, **rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, help="folder of the MakeHuman CC0 assets")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("presenter.png"))
    parser.add_argument("--size", type=int, default=1024, help="pixels of the square picture")
    parser.add_argument("--samples", type=int, default=40, help="light paths a pixel, before the denoiser")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--strands", type=int, default=16000, help="hairs on the head")
    parser.add_argument("--border", type=float, nargs=4, metavar=("X0", "X1", "Y0", "Y1"), help="render a crop, y up")
    parser.add_argument("--drape", type=int, default=36, help="steps of the cloth simulation")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        build(arguments.assets, Path(scratch), arguments.strands, arguments.drape, SPAN)
        scene.render(arguments.output, arguments.size, arguments.samples, arguments.threads, arguments.border)


if __name__ == "__main__":
    main()
