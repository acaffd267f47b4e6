"""Blender objects from arrays, the studio (lights, camera, background) and the render itself."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from presenter.human import Array, to_blender
from presenter.materials import Nodes

Triple = tuple[float, float, float]  # a place in metres or a linear colour


def clear() -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)


def link(name: str, data: bpy.types.ID) -> bpy.types.Object:
    thing = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(thing)
    return thing


def add_mesh(
    name: str,
    points: Array,  # (V, 3) MakeHuman axes
    faces: list[list[int]],
    uv: Array | None = None,
    uv_faces: list[list[int]] | None = None,
    materials: list | None = None,
    material_index: list[int] | None = None,
    attributes: dict[str, Array] | None = None,
    subdivide: int = 0,
) -> bpy.types.Object:
    """A smooth mesh object of the vertices that its faces use; doubled corners of a triangle are dropped."""
    used = np.zeros(len(points), bool)
    for face in faces:
        used[face] = True
    number = np.cumsum(used) - 1
    mesh = bpy.data.meshes.new(name)
    rings = [list(dict.fromkeys(face)) for face in faces]
    mesh.from_pydata(to_blender(points[used]).tolist(), [], [[int(number[i]) for i in ring] for ring in rings])
    if uv is not None and uv_faces is not None:
        corners = [dict(zip(face, uv_face, strict=True)) for face, uv_face in zip(faces, uv_faces, strict=True)]
        values = [uv[corner[i]] for ring, corner in zip(rings, corners, strict=True) for i in ring]
        mesh.uv_layers.new(name="UV").data.foreach_set("uv", np.array(values, np.float32).ravel())
    for key, value in (attributes or {}).items():
        mesh.attributes.new(key, "FLOAT", "POINT").data.foreach_set("value", value[used].astype(np.float32))
    for material in materials or []:
        mesh.materials.append(material)
    if material_index is not None:
        mesh.polygons.foreach_set("material_index", np.array(material_index, np.int32))
    mesh.shade_smooth()
    mesh.update()
    thing = link(name, mesh)
    if subdivide:
        modifier = thing.modifiers.new("subdivide", "SUBSURF")
        modifier.levels = modifier.render_levels = subdivide
    return thing


def add_strands(
    name: str, strands: Array, root_radius: float, tip_radius: float, material: bpy.types.Material
) -> bpy.types.Object:
    """Curves (N, K, 3) in Blender's metres, tapering from root to tip."""
    count, points = strands.shape[:2]
    curves = bpy.data.hair_curves.new(name)
    curves.add_curves([points] * count)
    curves.attributes["position"].data.foreach_set("vector", strands.astype(np.float32).ravel())
    radius = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
    taper = root_radius + (tip_radius - root_radius) * np.linspace(0, 1, points) ** 1.5
    radius.data.foreach_set("value", np.tile(taper, count).astype(np.float32))
    curves.materials.append(material)
    return link(name, curves)


def evaluated_points(thing: bpy.types.Object) -> tuple[Array, list[list[int]]]:
    """World coordinates and faces of an object after its modifiers."""
    mesh = thing.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
    points = np.empty(len(mesh.vertices) * 3)
    mesh.vertices.foreach_get("co", points)
    faces = [list(polygon.vertices) for polygon in mesh.polygons]
    return points.reshape(-1, 3), faces


def area_light(
    place: Triple, target: Triple, size: float, power: float, colour: Triple = (1.0, 1.0, 1.0), mirrored: bool = True
) -> None:
    """A square light; one that is not `mirrored` leaves no reflection, which in a cornea would veil the pupil."""
    light = bpy.data.lights.new("area", "AREA")
    light.size, light.energy, light.color = size, power, colour
    thing = link("area", light)
    thing.location = place
    thing.visible_glossy = mirrored
    thing.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()


def studio(eye_height: float, span: float, eye_share: float, backdrop_picture: Path) -> None:
    """Three soft lights, a camera 3.4 m away and an out-of-focus office wall.

    `span` is the height of the picture in metres at the person; the eyes are `eye_share` of it below its top.
    """
    scene = bpy.context.scene
    middle = eye_height + span * (eye_share - 0.5)
    distance = 3.4
    camera = bpy.data.cameras.new("camera")
    thing = link("camera", camera)
    scene.camera = thing
    thing.location = (0.0, -distance, middle + 0.08)
    thing.rotation_euler = (Vector((0, 0, middle)) - thing.location).to_track_quat("-Z", "Y").to_euler()
    camera.sensor_fit, camera.sensor_height = "VERTICAL", 24.0
    camera.lens = 24.0 * distance / span
    face = (0.0, -0.1, eye_height - 0.08)
    area_light((-1.3, -1.9, eye_height + 0.85), face, 1.1, 62, (1.0, 0.95, 0.88))
    area_light((1.9, -1.7, eye_height + 0.1), face, 1.8, 20, (0.88, 0.94, 1.0), mirrored=False)
    area_light((0.2, -2.4, eye_height - 1.2), face, 1.6, 7, (1.0, 0.95, 0.9), mirrored=False)
    area_light((1.1, 1.2, eye_height + 0.8), face, 0.7, 18, (1.0, 0.97, 0.92))
    area_light((-1.3, 1.1, eye_height + 0.6), face, 0.8, 22, (0.92, 0.96, 1.0))
    # A small light beside the camera, for the highlight in the eyes.
    area_light((-0.45, -2.7, eye_height + 0.42), face, 0.24, 5)
    world = bpy.data.worlds.new("world")
    scene.world = world
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.85, 0.9, 1.0, 1.0)
    world.node_tree.nodes["Background"].inputs[1].default_value = 0.22
    half = 0.5 * span * (distance + 1.6) / distance * 1.02
    wall = bpy.data.meshes.new("wall")
    wall.from_pydata([(-half, 0, -half), (half, 0, -half), (half, 0, half), (-half, 0, half)], [], [(0, 1, 2, 3)])
    wall.uv_layers.new(name="UV").data.foreach_set("uv", np.array([0, 0, 1, 0, 1, 1, 0, 1], np.float32))
    wall.materials.append(wallpaper(backdrop_picture))
    backdrop = link("wall", wall)
    backdrop.location = (0.0, 1.6, middle - 0.08 * 1.6 / distance)
    # Seen by the camera alone: it neither lights the person nor shadows the rim lights behind it.
    backdrop.visible_diffuse = backdrop.visible_glossy = backdrop.visible_shadow = False


def wallpaper(picture: Path) -> bpy.types.Material:
    """The backdrop's picture as light, with a little grain so that the gradient does not band."""
    nodes = Nodes("wall")
    image = nodes.add("TexImage", image=bpy.data.images.load(str(picture)), extension="EXTEND")
    nodes.set(image.inputs["Vector"], nodes.add("TexCoord").outputs["UV"])
    nodes.surface(nodes.add("Emission", {"Color": image.outputs[0], "Strength": 0.92}).outputs[0])
    return nodes.material


def render(path: Path, size: int, samples: int, threads: int, border: tuple[float, ...] | None = None) -> None:
    """Render to an 8-bit RGB PNG; `border` (x0, x1, y0, y1) in shares of the picture, y up, renders a crop alone."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", samples, 0
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.use_adaptive_sampling, cycles.adaptive_threshold = True, 0.02
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 8, 3, 3
    cycles.transparent_max_bounces = 16
    cycles.sample_clamp_indirect = 4.0
    settings = scene.render
    settings.resolution_x = settings.resolution_y = size
    settings.threads_mode, settings.threads = "FIXED", threads
    settings.filepath = str(path.resolve())
    settings.image_settings.file_format, settings.image_settings.color_mode = "PNG", "RGB"
    settings.image_settings.compression = 100
    settings.use_border = settings.use_crop_to_border = border is not None
    if border is not None:
        settings.border_min_x, settings.border_max_x, settings.border_min_y, settings.border_max_y = border
    scene.view_settings.view_transform, scene.view_settings.look = "AgX", "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.12
    bpy.ops.render.render(write_still=True)
