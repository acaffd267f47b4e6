"""A small rasteriser on OpenGL without a window: colour with coverage, and depth, of triangles with vertex attributes.

Letters: M vertices, T triangles, H W picture size. Works on any OpenGL 3.3 through EGL: a graphics card or Mesa's
software renderer. The world is MakeHuman's (decimetres, y up, the person faces +z); pictures have y down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.people import shaders
from train.people.meshes import Array, Indices

FloatImage = NDArray[np.float32]
SHADOW_SIZE = 768
ATTRIBUTES = ("rest", "colour", "surface")


@dataclass(frozen=True)
class Camera:
    """A pinhole: `place` and `target` in decimetres, `span` dm of the picture's height at the target's distance."""

    place: tuple[float, float, float]
    target: tuple[float, float, float]
    span: float
    size: tuple[int, int]  # (H, W)

    def view(self) -> Array:
        """(4, 4) world to camera: x right, y up, z towards the viewer."""
        return look_at(np.array(self.place), np.array(self.target))

    def projection(self) -> Array:
        """(4, 4) camera to clip space."""
        distance = float(np.linalg.norm(np.array(self.place) - np.array(self.target)))
        near, far = 0.4 * distance, 2.0 * distance
        focal = 2 * distance / self.span
        matrix = np.zeros((4, 4))
        matrix[0, 0], matrix[1, 1] = focal * self.size[0] / self.size[1], focal
        matrix[2, 2], matrix[2, 3], matrix[3, 2] = (near + far) / (near - far), 2 * near * far / (near - far), -1
        return matrix

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels (..., 2), x right, y down, and distances along the view (...) in decimetres."""
        seen = points @ self.view()[:3, :3].T + self.view()[:3, 3]
        clip = np.concatenate([seen, np.ones((*seen.shape[:-1], 1))], -1) @ self.projection().T
        flat = clip[..., :2] / clip[..., 3:]
        half = 0.5 * np.array([self.size[1], self.size[0]])
        return (flat * (1, -1) + 1) * half, -seen[..., 2]

    def distances(self, depth: FloatImage) -> FloatImage:
        """Depth buffer values in [0, 1] to distances along the view, dm; the far plane stays infinite."""
        matrix = self.projection()
        ndc = 2 * depth.astype(np.float64) - 1
        away = matrix[2, 3] / (ndc + matrix[2, 2])
        return np.where(depth >= 1, np.inf, away).astype(np.float32)


def look_at(place: Array, target: Array) -> Array:
    """(4, 4) view matrix with y up."""
    back = (place - target) / np.linalg.norm(place - target)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(back, right), back])
    matrix[:3, 3] = -matrix[:3, :3] @ place
    return matrix


def box_camera(way: Array, low: Array, high: Array) -> Array:
    """(4, 4) parallel projection along a direction to the light of the box from `low` to `high`."""
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    view = look_at(middle + way * 2 * radius, middle)
    scale = np.diag([1 / radius, 1 / radius, -1 / radius, 1.0])
    scale[2, 3] = -2.0
    return scale @ view


@dataclass(frozen=True)
class Lights:
    """Directions to the lights (unit) and linear colours; `sky` and `ground` light from everywhere."""

    key_way: Array
    fill_way: Array
    rim_way: Array
    rim2_way: Array
    key_light: Array
    fill_light: Array
    rim_light: Array
    rim2_light: Array
    sky_light: Array
    ground_light: Array
    exposure: float = 1.0


class Rasteriser:
    """Draws one figure after another. A context manager; ValueError when no OpenGL is to be had."""

    def __init__(self, size: tuple[int, int], oversample: float = 1.5) -> None:
        """`size` (H, W) of pictures, which are drawn `oversample` times as large and averaged.

        Mesa's software renderer takes longer for 4 samples a pixel than for twice as many pixels.
        """
        import moderngl

        try:
            self._context = moderngl.create_context(standalone=True, require=330, backend="egl")  # type: ignore[arg-type]
        except Exception as error:  # moderngl raises plain Exception
            raise ValueError(
                f"no OpenGL through EGL ({error}); install a driver or Mesa's software renderer (Debian: libegl1, "
                "libgl1-mesa-dri)"
            ) from None
        self.size = size
        context = self._context
        context.enable(moderngl.DEPTH_TEST)
        self._blending = moderngl.BLEND
        blending = (
            moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA, moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        )  # fmt: skip
        context.blend_func = blending  # type: ignore[assignment]
        self._height, self._width = (round(side * oversample) for side in size)
        self._colour = context.renderbuffer((self._width, self._height), 4)
        self._depth = context.depth_texture((self._width, self._height))
        self._picture = context.framebuffer([self._colour], self._depth)
        self._shadow = context.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._shadow.compare_func = "<="
        self._shadow_only = context.framebuffer([], self._shadow)
        self._plain = context.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._plain_only = context.framebuffer([], self._plain)
        self._shaders: dict[int, object] = {}
        self._uniforms: dict[str, object] = {"shadow_map": 0, "shadow_texel": 1.0 / SHADOW_SIZE}
        self._depth_shader = context.program(shaders.DEPTH_VERTEX, shaders.DEPTH_FRAGMENT)

    def __enter__(self) -> Rasteriser:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.release()

    def load(self, faces: Mapping[int, Indices], attributes: FloatImage) -> None:
        """Take a figure's triangles by material {number: (T, 3)} and its static attributes (M, 11).

        The attributes are rest (3), linear colour and alpha (4), surface (4), as in `shaders`.
        """
        context = self._context
        self._count = len(attributes)
        self._static = context.buffer(np.ascontiguousarray(attributes, "f4").tobytes())
        self._moving = context.buffer(reserve=self._count * 24, dynamic=True)
        moving, static = (self._moving, "3f 3f", "place", "normal"), (self._static, "3f 4f 4f", *ATTRIBUTES)
        self._materials = []
        for kind in sorted(faces, key=lambda kind: kind in shaders.SEE_THROUGH):
            if kind not in self._shaders:
                self._shaders[kind] = context.program(shaders.VERTEX, shaders.FRAGMENT.replace("KIND_HERE", str(kind)))
            program = self._shaders[kind]
            indices = context.buffer(np.ascontiguousarray(faces[kind], "i4").tobytes())
            self._materials.append((kind, context.vertex_array(program, [moving, static], indices, skip_errors=True)))
        solid = np.concatenate([faces[kind] for kind in faces if kind not in shaders.SEE_THROUGH])
        indices = context.buffer(np.ascontiguousarray(solid, "i4").tobytes())
        self._shape = context.vertex_array(self._depth_shader, [(self._moving, "3f 12x", "place")], indices)
        self._apply()

    def light(self, lights: Lights, **uniforms: object) -> None:
        """Set the lights and other uniforms (iris, weave, …) of the materials."""
        self._uniforms |= {name: getattr(lights, name) for name in lights.__dataclass_fields__} | uniforms
        self._key_way = np.asarray(lights.key_way)
        self._apply()

    def draw(self, camera: Camera, places: FloatImage, normals: FloatImage) -> tuple[NDArray[np.uint8], FloatImage]:
        """RGBA (H, W, 4) uint8, colour multiplied by coverage, and distances (H, W) in dm, infinite off the figure."""
        self._write(places, normals)
        # 1. Shadows of the key light.
        shadow_camera = box_camera(self._key_way, places.min(0), places.max(0))
        self._fill_depth(self._shadow_only, shadow_camera)
        # 2. Colour: depth first, so that only what is seen is shaded.
        matrix = camera.projection() @ camera.view()
        self._picture.clear(0.0, 0.0, 0.0, 0.0)
        self._picture.color_mask = False, False, False, False
        self._fill_depth(self._picture, matrix, clear=False)
        self._picture.color_mask = True, True, True, True
        self._picture.depth_mask = False
        self._picture.use()  # which is what makes the masks count
        self._context.depth_func = "<="
        self._shadow.use(0)
        for kind, triangles in self._materials:
            program = self._shaders[kind]
            set_matrix(program, "camera", matrix)
            set_matrix(program, "shadow_camera", shadow_camera)
            set_uniform(program, "eye_place", camera.place)
            if kind in shaders.SEE_THROUGH:
                self._context.enable(self._blending)
            triangles.render()
        self._context.disable(self._blending)
        self._context.depth_func = "<"
        self._picture.depth_mask = True
        self._picture.use()
        shape = self._height, self._width
        rgba = np.frombuffer(self._picture.read(components=4), np.uint8).reshape(*shape, 4)[::-1]
        depth = np.frombuffer(self._depth.read(), np.float32).reshape(shape)[::-1]
        size = self.size[::-1]
        small = cv2.resize(np.ascontiguousarray(rgba), size, interpolation=cv2.INTER_AREA)
        nearest = cv2.resize(np.ascontiguousarray(depth), size, interpolation=cv2.INTER_NEAREST)
        return np.asarray(small, np.uint8), camera.distances(np.asarray(nearest, np.float32))

    def occlusion(self, places: FloatImage, normals: FloatImage, ways: Array) -> FloatImage:
        """(M,) in [0, 1]: the part of the directions `ways` (N, 3) above each vertex that nothing hides."""
        self._write(places, normals)
        low, high = places.min(0), places.max(0)
        seen, above = np.zeros((2, self._count))
        raised = places + 0.05 * normals
        for way in ways:
            matrix = box_camera(way, low, high)
            self._fill_depth(self._plain_only, matrix)
            depth = np.frombuffer(self._plain.read(), np.float32).reshape(SHADOW_SIZE, SHADOW_SIZE)
            place = (raised @ matrix[:3, :3].T + matrix[:3, 3]) * 0.5 + 0.5
            column, row = (np.clip(place[:, k] * SHADOW_SIZE, 0, SHADOW_SIZE - 1).astype(int) for k in (0, 1))
            weight = np.clip(normals @ way, 0, 1)
            seen += weight * (place[:, 2] <= depth[row, column] + 0.004)
            above += weight
        return (seen / np.maximum(above, 1e-6)).astype(np.float32)

    def _write(self, places: FloatImage, normals: FloatImage) -> None:
        moving = np.concatenate([places, normals], 1, dtype=np.float32)
        self._moving.write(moving.tobytes())

    def _fill_depth(self, target: Any, matrix: Array, clear: bool = True) -> None:
        target.use()
        if clear:
            target.clear(depth=1.0)
        set_matrix(self._depth_shader, "camera", matrix)
        self._shape.render()

    def _apply(self) -> None:
        for program in self._shaders.values():
            for name, value in self._uniforms.items():
                set_uniform(program, name, value)


def set_matrix(program: Any, name: str, matrix: Array) -> None:
    if name in program:
        program[name].write(np.ascontiguousarray(matrix.T, "f4").tobytes())


def set_uniform(program: Any, name: str, value: Any) -> None:
    if name in program:  # a material that does not use a uniform has none
        program[name].value = tuple(np.asarray(value).tolist()) if np.ndim(value) else value
