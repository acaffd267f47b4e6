"""Where the 468 surface points of MediaPipe's face mesh lie on the base mesh: three vertices and shares for each.

    python -m train.people.face_mesh ASSETS        # fits them again: half a minute

The fit draws a few people from the front and from both sides with the lips parted, runs the product's own detector on
the pictures, finds the triangle behind every detected point, averages these places over pictures on the base mesh
before any morph, makes left and right agree, and takes the nearest place on the surface. face_mesh.npy is the result.

Letters: P = 468 points, V base vertices, T triangles, N pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.keypoints import FACE, LIPS_INNER_LOWER, LIPS_INNER_UPPER
from pose.motion import EXPRESSION_NAMES, expression_index
from train.people.base import BaseMesh
from train.people.expressions import lip_masks
from train.people.meshes import Array, Indices, triangles
from train.people.raster import Camera, Rasteriser

Mask = NDArray[np.bool_]
FILE = Path(__file__).with_name("face_mesh.npy")
SURFACE = 468
ROW = np.dtype([("vertices", "<i4", 3), ("shares", "<f4", 3)])
YAWS = (-0.35, -0.12, 0.12, 0.35)  # radians, views from both sides
PEOPLE = (15, 16, 6, 18, 7, 1)  # seeds of looks whose hair leaves the face free
SIZE = 512


def attachments() -> tuple[Indices, Array]:
    """Vertices (P, 3) and shares (P, 3) of the points."""
    rows = np.load(FILE, allow_pickle=False)
    return rows["vertices"].astype(np.int64), rows["shares"].astype(np.float64)


def nearest_on(points: Array, corners: Array) -> tuple[Indices, Array]:
    """The nearest place of triangles (T, 3, D) to each point (P, D), D = 2 or 3: triangle (P,) and shares (P, 3).

    Ericson, Real-Time Collision Detection (2005), 5.1.5, by clipping: exact inside, on the nearest edge outside.
    """
    chosen, shares = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d00, d01, d11 = ((p * q).sum(-1) for p, q in ((ab, ab), (ab, ac), (ac, ac)))
    area = np.maximum(d00 * d11 - d01 * d01, 1e-15)
    for number, point in enumerate(points):
        ap = point - a
        d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
        v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
        candidates = [np.stack([1 - v - w, v, w], -1)]
        inside = (candidates[0] >= 0).all(-1)
        along_ab = np.clip(d20 / np.maximum(d00, 1e-15), 0, 1)
        along_ac = np.clip(d21 / np.maximum(d11, 1e-15), 0, 1)
        bc = ac - ab
        along_bc = np.clip(((ap - ab) * bc).sum(-1) / np.maximum((bc * bc).sum(-1), 1e-15), 0, 1)
        zero = np.zeros_like(v)
        edges = (
            np.stack([1 - along_ab, along_ab, zero], -1),
            np.stack([1 - along_ac, zero, along_ac], -1),
            np.stack([zero, 1 - along_bc, along_bc], -1),
        )
        best = np.full(len(a), np.inf)
        place = np.zeros((len(a), 3))
        for share, valid in ((candidates[0], inside), *((edge, ~inside) for edge in edges)):
            away = ((np.einsum("tk,tkd->td", share, corners) - point) ** 2).sum(-1)
            better = valid & (away < best)
            best[better], place[better] = away[better], share[better]
        chosen[number] = int(np.argmin(best))
        shares[number] = place[chosen[number]]
    return chosen, shares


def mirrored(points: Array) -> Array:
    """Points (P, 3) averaged with their mirror images across x = 0."""
    image = points * (-1, 1, 1)
    partner = np.array([int(np.argmin(((image - point) ** 2).sum(-1))) for point in points])
    mutual = partner[partner] == np.arange(len(points))
    return np.where(mutual[:, None], (points + image[partner]) / 2, points)


def fit(assets: Path) -> NDArray[np.void]:
    """The attachments, (P,) of ROW; needs the assets, OpenGL and the detector."""
    from pose.detect import PersonDetector
    from train.people.figure import Figure
    from train.people.looks import draw_look
    from train.people.studio import bake, close_up, plain_lights, uniforms

    base = BaseMesh(assets)
    upper, lower = lip_masks(base)
    faces = triangles([f for f, g in zip(base.mesh.faces, base.mesh.groups, strict=True) if g == "body"])
    faces = faces[base.points[faces][:, :, 1].min(1) > base.head("head")[1] - 0.4]
    jobs = groups(upper[faces].min(1) > 0.3, lower[faces].min(1) > 0.3)
    parted = np.zeros(len(EXPRESSION_NAMES), np.float32)
    parted[expression_index("jawOpen")] = 0.25
    total, weight = np.zeros((SURFACE, 3)), np.zeros(SURFACE)
    with Rasteriser((SIZE, SIZE)) as rasteriser, PersonDetector() as detector:
        for seed in PEOPLE:
            look = draw_look(np.random.default_rng(seed))
            figure = Figure(assets, look)
            rest = np.tile(np.eye(3, 4), (len(figure.puppet.order), 1, 1))
            bake(rasteriser, figure, rest)
            rasteriser.light(plain_lights(), **uniforms(look))
            places, normals = figure.points(rest, parted)
            posed = figure.base_points(rest, parted)
            for yaw in YAWS:
                camera = close_up(figure, yaw, (SIZE, SIZE))
                rgba, depth = rasteriser.draw(camera, places, normals)
                backdrop = 255 - rgba[..., 3:].astype(int)
                picture = np.clip(rgba[..., :3] + backdrop * 3 // 4, 0, 255).astype(np.uint8)
                found = detector.image(picture, matte=False).keypoints.points[0, FACE][:SURFACE]
                flat, _ = camera.project(posed)
                view = np.asarray(camera.place) - posed[faces].mean(1)
                outward = np.cross(posed[faces[:, 1]] - posed[faces[:, 0]], posed[faces[:, 2]] - posed[faces[:, 0]])
                facing = (outward * view).sum(-1) / np.maximum(
                    np.linalg.norm(outward, axis=-1) * np.linalg.norm(view, axis=-1), 1e-12
                )
                # Of the triangles that face the camera: the folds of ears, nostrils and mouth lie behind others.
                seen = (facing > 0.05) & visible(posed[faces].mean(1), camera, depth)
                for points, allowed in jobs:
                    kept = np.flatnonzero(allowed & (seen if allowed.all() else facing > -0.2))
                    triangle, shares = nearest_on(found[points].astype(float), flat[faces[kept]])
                    triangle = kept[triangle]
                    sure = np.clip(facing[triangle], 0.02, 1) ** 2
                    total[points] += sure[:, None] * np.einsum("pk,pkd->pd", shares, base.points[faces[triangle]])
                    weight[points] += sure
    return placed(mirrored(total / weight[:, None]), base.points, faces, jobs)


def groups(upper: Mask, lower: Mask) -> list[tuple[Indices, Mask]]:
    """Points and the triangles that they may lie on: the inner rim of each lip on that lip, the others anywhere."""
    rims = [np.array(rim[1:-1]) for rim in (LIPS_INNER_UPPER, LIPS_INNER_LOWER)]
    others = np.setdiff1d(np.arange(SURFACE), np.concatenate(rims))
    return [(others, np.ones(len(upper), bool)), (rims[0], upper), (rims[1], lower)]


def placed(points: Array, base: Array, faces: Indices, jobs: list[tuple[Indices, Mask]]) -> NDArray[np.void]:
    """The nearest places on the surface, (P,) of ROW."""
    result = np.zeros(SURFACE, ROW)
    for which, allowed in jobs:
        kept = np.flatnonzero(allowed)
        triangle, shares = nearest_on(points[which], base[faces[kept]])
        result["vertices"][which] = faces[kept[triangle]]
        result["shares"][which] = shares
    return result


def visible(points: Array, camera: Camera, depth: NDArray[np.float32]) -> Mask:
    """Whether points are the first thing that the camera sees, within 1.2 cm."""
    flat, away = camera.project(points)
    column, row = (np.clip(flat[:, k].astype(int), 0, camera.size[1 - k] - 1) for k in (0, 1))
    return away < depth[row, column] + 0.12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, help="folder of the MakeHuman CC0 assets")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    try:
        rows = fit(arguments.assets)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    np.save(arguments.out, rows)
    print(f"{len(rows)} points in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
