"""The realistic share: the same figure, light and camera drawn by Blender's Cycles through the module `bpy`.

Letters: M vertices, T triangles, H W picture size. The figure stays in MakeHuman's decimetres until it is handed over;
Blender's world is metres with z up, the person faces -y. Nothing is drawn at random here: who, which light and which
motion come from `performance`, so that a seed gives the same person in both renderers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.people.cycles_surfaces import Graph, make_material
from train.people.figure import Figure
from train.people.looks import triple
from train.people.meshes import Array, Indices
from train.people.puppet import unit
from train.people.raster import Camera, Lights

FloatImage = NDArray[np.float32]
METRES = 0.1  # a decimetre
TURN = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # MakeHuman's axes to Blender's
SENSOR_MM = 24.0  # any value gives the same picture
# Apparent size of the lights, radians: shadows get soft and eyes a highlight that is seen. Chosen by hand.
ANGLES = {"key": 0.4, "fill": 1.2, "rim": 0.6, "rim2": 0.6}
# What is added to the way to the key light for the eyes' highlight, as in shaders.
MIRRORED = np.array([0.0, 0.1, 0.75])
REACH = 5  # pixels across from which a pixel at the border takes its colour
INSTALL = "install it with `pip install bpy==5.0.1` under Python 3.11, or leave --cycles out"


def check_bpy() -> None:
    """ValueError in one line unless Blender's module can be loaded."""
    try:
        import bpy  # noqa: F401
    except ImportError as error:
        python = ".".join(map(str, sys.version_info[:2]))
        raise ValueError(f"--cycles needs Blender's module bpy ({error}; Python {python}): {INSTALL}") from None


def to_blender(points: NDArray[Any]) -> NDArray[Any]:
    """Points (..., 3) in MakeHuman's decimetres as Blender's metres."""
    return METRES * np.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def camera_pose(camera: Camera) -> tuple[Array, float]:
    """Blender's camera to world (4, 4), and the focal length in mm on a sensor SENSOR_MM high."""
    view = camera.view()
    pose = np.eye(4)
    pose[:3, :3] = TURN @ view[:3, :3].T
    pose[:3, 3] = to_blender(np.array(camera.place))
    return pose, float(camera.projection()[1, 1] * SENSOR_MM / 2)


def sun_pose(way: Array) -> Array:
    """(4, 4) of a lamp that shines from direction `way` (unit, MakeHuman's axes): its z axis points there."""
    back = TURN @ way
    side = np.cross([0.0, 0.0, 1.0] if abs(back[2]) < 0.99 else [0.0, 1.0, 0.0], back)
    side /= np.linalg.norm(side)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([side, np.cross(back, side), back], 1)
    return pose


def corners(faces: Mapping[int, Indices]) -> tuple[Indices, Indices, list[int]]:
    """Triangles (T, 3) of all materials, the slot (T,) of each one's material, and the material of each slot."""
    kinds = sorted(faces)
    slots = np.repeat(np.arange(len(kinds)), [len(faces[kind]) for kind in kinds])
    return np.concatenate([faces[kind] for kind in kinds]), slots, kinds


def developed(light: FloatImage, matte: NDArray[np.uint8], exposure: float) -> FloatImage:
    """sRGB in [0, 255] multiplied by coverage (H, W, 3), of linear light and its own coverage (H, W, 4), for a matte.

    The matte (H, W) is the rasteriser's, which is exact; the light's own coverage comes in as many steps as there are
    samples, so that pixels at the border take the colour of what is covered around them. The tone curve is that of
    `shaders`.
    """
    around = cv2.GaussianBlur(np.ascontiguousarray(light), (REACH, REACH), 0)
    whole = light[..., 3:] > 0.999
    seen = np.where(whole, light[..., :3], around[..., :3] / np.maximum(around[..., 3:], 1e-3))
    seen = np.clip(seen, 0, None) * exposure
    seen = seen * (1 + 0.12 * seen) / (1 + 0.42 * seen)
    srgb = np.where(seen < 0.0031308, 12.92 * seen, 1.055 * np.maximum(seen, 1e-5) ** (1 / 2.4) - 0.055)
    return (matte[..., None] * np.clip(srgb, 0, 1)).astype(np.float32)


class Cycles:
    """Draws one figure; making another one takes the first one's place, as a process has one Blender."""

    def __init__(self, figure: Figure, lights: Lights, camera: Camera, samples: int) -> None:
        """`samples` of light a pixel, denoised."""
        import bpy

        self._bpy = bpy
        with quiet():
            bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        self._load(figure, lights)
        self._light(lights)
        pose, lens = camera_pose(camera)
        made = bpy.data.cameras.new("camera")
        made.sensor_fit, made.sensor_height, made.lens = "VERTICAL", SENSOR_MM, lens
        scene.camera = self._place(made, pose)
        # One thread a process: --processes says how many work. Colours and normals guide the denoiser as they are:
        # denoised first they cost as much again, and eyes and lips get soft.
        settings: dict[Any, dict[str, Any]] = {
            scene.render: {
                "engine": "CYCLES", "resolution_x": camera.size[1], "resolution_y": camera.size[0],
                "film_transparent": True, "use_persistent_data": True, "threads_mode": "FIXED", "threads": 1,
            },
            scene.cycles: {
                "device": "CPU", "samples": samples, "use_adaptive_sampling": False, "use_denoising": True,
                "denoiser": "OPENIMAGEDENOISE", "denoising_prefilter": "NONE", "sampling_pattern": "BLUE_NOISE",
                "use_light_tree": False, "pixel_filter_type": "BOX", "filter_width": 1.0,
                "max_bounces": 4, "diffuse_bounces": 2, "glossy_bounces": 2, "transparent_max_bounces": 8,
                "caustics_reflective": False, "caustics_refractive": False, "sample_clamp_indirect": 4.0,
            },
            scene.render.image_settings: {"file_format": "OPEN_EXR", "color_mode": "RGBA", "color_depth": "32"},
        }  # fmt: skip
        for target, values in settings.items():
            for name, value in values.items():
                setattr(target, name, value)
        self._scene, self._size = scene, camera.size

    def draw(self, places: FloatImage) -> FloatImage:
        """Linear light times coverage, and coverage (H, W, 4), of the figure with its vertices (M, 3) at `places`."""
        bpy = self._bpy
        self._mesh.vertices.foreach_set("co", to_blender(places).astype(np.float32).ravel())
        self._mesh.update()
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = str(Path(folder) / "frame.exr")
            self._scene.render.filepath = path
            bpy.ops.render.render(write_still=True)
            image = bpy.data.images.load(path)
            values = np.empty(self._size[0] * self._size[1] * 4, np.float32)
            image.pixels.foreach_get(values)
            bpy.data.images.remove(image)
        return values.reshape(*self._size, 4)[::-1]  # Blender's rows begin below

    def _load(self, figure: Figure, lights: Lights) -> None:
        """The mesh with its attributes and materials."""
        bpy = self._bpy
        triangles, slots, kinds = corners(figure.materials)
        static = figure.static
        mesh = self._mesh = bpy.data.meshes.new("figure")
        mesh.vertices.add(len(static))
        mesh.loops.add(triangles.size)
        mesh.polygons.add(len(triangles))
        mesh.loops.foreach_set("vertex_index", triangles.astype(np.int32).ravel())
        mesh.polygons.foreach_set("loop_start", np.arange(0, triangles.size, 3, dtype=np.int32))
        mesh.polygons.foreach_set("material_index", slots.astype(np.int32))
        for name, data_type, field, values in (
            ("rest", "FLOAT_VECTOR", "vector", static[:, :3]),
            ("colour", "FLOAT_COLOR", "color", static[:, 3:7]),
            ("open", "FLOAT", "value", static[:, 8]),
            ("own", "FLOAT", "value", static[:, 10]),
        ):
            mesh.attributes.new(name, data_type, "POINT").data.foreach_set(field, np.ascontiguousarray(values).ravel())
        lamp = triple(TURN @ unit(np.asarray(lights.key_way) + MIRRORED))
        for kind in kinds:
            mesh.materials.append(make_material(bpy, kind, figure.look, lamp))
        mesh.shade_smooth()
        mesh.update(calc_edges=True)
        thing = self._place(mesh, np.eye(4))
        thing.shadow_terminator_geometry_offset = 0.1

    def _light(self, lights: Lights) -> None:
        """The key, fill and rim lights as suns of some size, sky and ground as a world that is brighter above."""
        bpy = self._bpy
        for name, angle in ANGLES.items():
            colour = np.asarray(getattr(lights, f"{name}_light"), float)
            sun = bpy.data.lights.new(name, "SUN")
            strongest = float(colour.max())
            sun.color, sun.energy, sun.angle = colour / strongest, np.pi * strongest, angle
            self._place(sun, sun_pose(np.asarray(getattr(lights, f"{name}_way"))))
        world = bpy.context.scene.world = bpy.data.worlds.new("world")
        graph = Graph(world)
        way = graph.node("TexCoord").outputs["Generated"]  # of a world: the direction
        height = graph.node("SeparateXYZ", {0: way}).outputs[2]
        share = graph.math("MULTIPLY_ADD", height, 0.5, 0.5)
        colour = graph.mix(share, triple(lights.ground_light), triple(lights.sky_light))
        background = graph.node("Background", {0: colour})
        graph.node("OutputWorld", {0: background.outputs[0]})

    def _place(self, data: Any, pose: Array) -> Any:
        """An object of some data in the scene."""
        thing = self._bpy.data.objects.new(data.name, data)
        thing.matrix_world = pose.T.tolist()
        self._bpy.context.scene.collection.objects.link(thing)
        return thing


@contextmanager
def quiet() -> Iterator[None]:
    """Blender writes a line for each step of a picture to the process's output; not to ours."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
