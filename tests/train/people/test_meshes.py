"""Mesh formats, triangles, subdivision."""

import numpy as np
import pytest

from train.people.base import BaseMesh
from train.people.meshes import components, read_mhclo, read_obj, read_target, subdivision, triangles

CUBE = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
SIDES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def test_targets_and_obj(tmp_path):
    (tmp_path / "a.target").write_text("# about\n\n3 .5 -.25 0\n7 1 2 3\n")
    vertices, moved = read_target(tmp_path / "a.target")
    assert vertices.tolist() == [3, 7]
    np.testing.assert_array_equal(moved, [[0.5, -0.25, 0], [1, 2, 3]])
    (tmp_path / "empty.target").write_text("# an average body\n")
    assert read_target(tmp_path / "empty.target")[1].shape == (0, 3)
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 1\ng one\nf 1/1 2/1 3/1 4/1\ng two\nf 1 2 3\n"
    )
    mesh = read_obj(tmp_path / "a.obj")
    assert mesh.faces == [[0, 1, 2, 3], [0, 1, 2]] and mesh.groups == ["one", "two"]
    assert mesh.uv_faces == [[0, 0, 0, 0], [0, 0, 0]] and mesh.uv.tolist() == [[0, 1]]


def test_garments(tmp_path, made_up):
    """A header after `verts`, single indices and triples, ranges of hidden vertices, offsets scaled with the body."""
    (tmp_path / "shirt.obj").write_text("v 0 0 0\nv 0 0 0\nf 1 2 1\n")
    (tmp_path / "shirt.mhclo").write_text(
        "# shirt\nobj_file shirt.obj\nx_scale 0 1 2.0\nverts 0\nmaterial a.mhmat\n"
        "5\n0 1 2 0.5 0.25 0.25 .1 0 .3\ndelete_verts\n2 - 4 7\n9\n"
    )
    fitting = read_mhclo(tmp_path / "shirt.mhclo")
    assert fitting.hidden == (2, 3, 4, 7, 9) and fitting.scale == {0: (0, 1, 2.0)}
    body = BaseMesh(made_up)
    body.points[:3] = (0, 0, 0), (4, 0, 0), (0, 4, 0)
    mesh = body.fit(tmp_path / "shirt.mhclo")
    np.testing.assert_allclose(mesh.points[0], body.points[5])
    np.testing.assert_allclose(mesh.points[1], (1 + 0.1 * 2, 1, 0.3))  # twice as wide as the template
    np.testing.assert_allclose(mesh.weights.sum(1), 1)


def test_missing_assets_are_named(tmp_path):
    with pytest.raises(ValueError, match="no makehuman/data/3dobjs/base.obj under .*makehumancommunity"):
        BaseMesh(tmp_path)


def test_triangles_keep_the_area():
    corners = CUBE[triangles([*SIDES, [0, 1, 1, 3]])]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert area.sum() == pytest.approx(24 + 2)


def test_subdivision():
    """Catmull-Clark of a cube: known places; a flat sheet stays flat and keeps its border."""
    matrix, faces = subdivision(SIDES, 8)
    points = matrix @ CUBE
    assert matrix.shape == (8 + 12 + 6, 8) and len(faces) == 24
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(np.abs(points[:8]), 5 / 9)  # (F + 2 R + (n - 3) P) / n with n = 3
    np.testing.assert_allclose(np.sort(np.abs(points[8:20]), 1), np.tile([0, 0.75, 0.75], (12, 1)))
    grid = np.array([(x, y, 0) for y in range(3) for x in range(3)], float)
    sheet, _ = subdivision(
        [[r * 3 + c, r * 3 + c + 1, r * 3 + c + 4, r * 3 + c + 3] for r in (0, 1) for c in (0, 1)], 9
    )
    finer = sheet @ grid
    assert not finer[:, 2].any()
    np.testing.assert_allclose(finer[4], (1, 1, 0))
    np.testing.assert_allclose((finer[:9].min(0)[:2], finer[:9].max(0)[:2]), ((0, 0), (2, 2)))


def test_components(tmp_path):
    (tmp_path / "two.obj").write_text("".join(f"v {k} 0 0\n" for k in range(7)) + "f 1 2 3\nf 5 6 7\nf 3 4 1\n")
    assert components(read_obj(tmp_path / "two.obj")).tolist() == [0, 1, 0]
