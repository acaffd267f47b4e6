"""What is handed to Blender is tested without it; pictures only where its module bpy is installed."""

import importlib.util
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from avatar.data.shards import ShardFolder
from train.people import shaders
from train.people.cycles import (
    SENSOR_MM,
    Cycles,
    camera_pose,
    check_bpy,
    corners,
    developed,
    quiet,
    sun_pose,
    to_blender,
)
from train.people.cycles_surfaces import SURFACES
from train.people.performance import PeopleConfig
from train.people.raster import Camera
from train.people.studio import plain_lights
from train.render import main

CAMERA = Camera((3.0, 6.0, 30.0), (0.5, 5.0, 0.0), 8.0, (64, 96))
WITH_BPY = "needs Blender's module: pip install bpy==5.0.1 (Python 3.11)"


def test_axes_and_metres():
    points = np.array([(1.0, 2, 3), (0, 10, 0)])  # 10 dm up, 3 dm towards the viewer
    np.testing.assert_allclose(to_blender(points), [(0.1, -0.3, 0.2), (0, 0, 1)])


def test_blender_sees_what_the_rasteriser_sees():
    """Points meet the same pixels through a camera that looks along -z with a sensor as high as the picture."""
    points = np.random.default_rng(0).uniform((-3, 2, -2), (3, 8, 2), (20, 3))
    pose, lens = camera_pose(CAMERA)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    seen = (to_blender(points) - pose[:3, 3]) @ pose[:3, :3]
    height, width = CAMERA.size
    pixels = seen[:, :2] / -seen[:, 2:] * lens / SENSOR_MM * height * (1, -1) + (width / 2, height / 2)
    flat, away = CAMERA.project(points)
    np.testing.assert_allclose(pixels, flat, atol=1e-9)
    np.testing.assert_allclose(-seen[:, 2], 0.1 * away)


@pytest.mark.parametrize("way", [(0.0, 1.0, 0.0), (0.6, 0.0, 0.8), (0.0, -1.0, 0.0), (0.48, 0.6, -0.64)])
def test_suns_shine_from_their_direction(way):
    turn = sun_pose(np.array(way))[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn @ (0, 0, -1), -to_blender(np.array(way)) * 10, atol=1e-12)  # lamps shine along -z


def test_triangles_keep_their_material():
    faces = {shaders.EYE: np.array([[4, 5, 6]]), shaders.SKIN: np.array([[0, 1, 2], [1, 2, 3]])}
    triangles, slots, kinds = corners(faces)
    assert kinds == [shaders.SKIN, shaders.EYE] and slots.tolist() == [0, 0, 1]
    assert triangles.tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6]]


def test_every_material_has_a_surface():
    kinds = (value for name, value in vars(shaders).items() if name.isupper() and isinstance(value, int))
    assert sorted(SURFACES) == sorted(kinds)
    assert all(0 < surface["Roughness"] <= 1 for surface in SURFACES.values())


def test_light_is_developed_as_the_shaders_do():
    """Full coverage gives the tone curve; at the border, the colour is that around and the coverage exact."""
    light = np.zeros((9, 9, 4), np.float32)
    light[:, :5] = 0.5, 0.25, 0.1, 1.0
    light[:, 4] *= 0.25  # one of four samples met the figure
    matte = np.zeros((9, 9), np.uint8)
    matte[:, :4], matte[:, 4] = 255, 100
    seen = developed(light, matte, 1.2)
    value = 1.2 * 0.5
    value *= (1 + 0.12 * value) / (1 + 0.42 * value)
    assert seen[4, 1, 0] == pytest.approx(255 * (1.055 * value ** (1 / 2.4) - 0.055), abs=0.01)
    np.testing.assert_allclose(seen[:, 4], seen[:, 1] * 100 / 255, rtol=0.01)
    assert (seen[:, 5:] == 0).all()
    assert (developed(light, matte, 2.4)[4, 1] > seen[4, 1]).all()


def test_output_goes_nowhere_for_a_while(capfd):
    print("before")
    with quiet():
        os.write(1, b"from C\n")
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"


def test_settings():
    assert PeopleConfig().cycles == 0
    with pytest.raises(ValueError, match=r"cycles must be from 0 to people \(2\), got 3"):
        PeopleConfig(people=2, cycles=3)
    with pytest.raises(ValueError, match="cycles_samples"):
        PeopleConfig(cycles_samples=0)


def test_without_bpy_nothing_begins(tmp_path, capsys, monkeypatch):
    """One line that says what to install, before folders are looked at."""
    monkeypatch.setitem(sys.modules, "bpy", None)  # what an import meets where it is not installed
    arguments = [str(tmp_path / "none"), str(tmp_path / "o"), "--speech", str(tmp_path), "--cycles", "1"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --cycles needs Blender's module bpy") and error.count("\n") == 1
    assert "pip install bpy==5.0.1" in error and "Python 3.11" in error
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(importlib.util.find_spec("bpy") is not None, reason="bpy is installed")
def test_its_absence_is_noticed():
    with pytest.raises(ValueError, match="pip install bpy"):
        check_bpy()


def test_a_frame_of_one_triangle():
    """Coverage where the camera sees the triangle, nothing elsewhere; the same frame again gives the same light."""
    pytest.importorskip("bpy", reason=WITH_BPY)
    from train.people.looks import Look

    places = np.array([(-2.5, 3, 0), (3.5, 3, 0), (0.5, 8, 0)], np.float32)
    static = np.tile(np.array([0, 0, 0, 0.5, 0.4, 0.3, 1, 0, 1, 0.5, 0], np.float32), (3, 1))
    figure = SimpleNamespace(
        materials={shaders.SKIN: np.array([[0, 1, 2]])}, static=static, look=Look({}, "caucasian", (0.5, 0.4, 0.3))
    )
    cycles = Cycles(figure, plain_lights(), CAMERA, 4)
    light = cycles.draw(places)
    assert light.shape == (64, 96, 4) and light.dtype == np.float32
    flat, _ = CAMERA.project(places.astype(float))
    x, y = np.meshgrid(np.arange(96) + 0.5, np.arange(64) + 0.5)
    edges = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        for a, b in zip(flat, np.roll(flat, -1, axis=0), strict=True)
    ]
    inside = (np.stack(edges) < 0).all(0) | (np.stack(edges) > 0).all(0)
    assert 0.1 < inside.mean() < 0.9 and ((light[..., 3] > 0.5) != inside).mean() < 0.01
    assert np.median(light[inside, :3]) > 0.1 and light[~inside, :3].mean() < 0.02
    np.testing.assert_array_equal(cycles.draw(places), light)


def test_the_same_people_by_both(real, opengl, babble, tmp_path, capfd):
    """`--cycles 1`: same points, mattes and depth as the rasteriser's clip, other pixels; not rendered again."""
    pytest.importorskip("bpy", reason=WITH_BPY)
    (tmp_path / "voices").mkdir()
    soundfile.write(tmp_path / "voices/a.wav", babble(2.0), 16000)
    arguments = ["--people", "1", "--seconds", "0.08", "--speech", str(tmp_path / "voices"), "size=[128,128]"]
    arguments += ["audio=null", "identity_side=32", "oversample=1"]
    clips = []
    for cycles in ("0", "1"):
        assert main([str(real), str(tmp_path / "o"), *arguments, "--cycles", cycles]) == 0
        clips.append(ShardFolder(tmp_path / "o").clip(0))
    plain, realistic = clips
    assert realistic.meta["renderer"] == "cycles" and "renderer" not in plain.meta
    for name in ("points", "confidence", "depth", "boxes"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(realistic, name))
    np.testing.assert_array_equal(plain.waveform(), realistic.waveform())
    mattes = plain.mattes()
    np.testing.assert_array_equal(mattes, realistic.mattes())
    difference = np.abs(plain.frames().astype(int) - realistic.frames()).mean(-1)
    assert difference[mattes == 0].mean() < 2 < difference[mattes == 255].mean() < 60
    out = capfd.readouterr().out
    assert "Fra:" not in out and "Saved" not in out
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "o/parts").rglob("*.tar")}
    assert len(parts) == 2
    for cycles in ("1", "0"):
        assert main([str(real), str(tmp_path / "o"), *arguments, "--cycles", cycles]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "o/parts").rglob("*.tar")} == parts


def test_silhouettes_meet(real, opengl):
    """The coverage that Cycles finds is the rasteriser's, for a person with all materials."""
    pytest.importorskip("bpy", reason=WITH_BPY)
    from train.people.figure import Figure
    from train.people.looks import draw_look
    from train.people.performance import rasteriser
    from train.people.studio import close_up, uniforms

    figure = Figure(real, draw_look(np.random.default_rng(3)))
    rest = np.tile(np.eye(3, 4), (len(figure.puppet.order), 1, 1))
    places, normals = figure.points(rest, np.zeros(figure.basis.shape[0], np.float32))
    camera = close_up(figure, 0.3, (128, 128))
    painter = rasteriser((128, 128), 2.0)
    painter.load(figure.materials, figure.static)
    painter.light(plain_lights(), **uniforms(figure.look))
    matte = painter.draw(camera, places, normals)[0][..., 3] > 127
    coverage = Cycles(figure, plain_lights(), camera, 4).draw(places)[..., 3] > 0.5
    assert (matte & coverage).sum() / (matte | coverage).sum() > 0.98
