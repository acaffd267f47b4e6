"""A garment that falls into folds: Blender's cloth solver from the skinned shape, with the shape at rest as its cut.

The springs' natural lengths come from the garment on the body at rest, a little enlarged, so the cloth that the raised
arms compress (inner elbow, armpit, waist) has to buckle as a real sleeve does.
"""

from __future__ import annotations

import bpy
import numpy as np
from presenter.human import Array, Human, Mesh
from presenter.scene import add_mesh, evaluated_points
from scipy.spatial import cKDTree


def edge_distance(points: Array, faces: list[list[int]]) -> Array:
    """(V,) distance in the points' unit from each vertex to the nearest open border of the mesh."""
    pairs = np.concatenate([np.stack([face, np.roll(face, -1)], 1) for face in map(np.array, faces)])
    unique, counts = np.unique(np.sort(pairs, 1), axis=0, return_counts=True)
    border = np.unique(unique[counts == 1])
    return cKDTree(points[border]).query(points)[0]


def settle(points: Array, faces: list[list[int]]) -> Array:
    """(V, 3) Blender's axes: smooth the whole cloth a little, and the chest's front until no crumple is left there."""
    pairs = np.concatenate([np.stack([face, np.roll(face, -1)], 1) for face in map(np.array, faces)])
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    count = np.bincount(rows, minlength=len(points))[:, None]
    x, y, z = points.T
    front = np.clip((0.17 - np.abs(x)) / 0.05, 0, 1) * np.clip((-0.02 - y) / 0.03, 0, 1)
    chest = front * np.clip((0.44 - z) / 0.05, 0, 1) * np.clip((z - 0.08) / 0.05, 0, 1)
    for step in range(30):
        mean = np.stack([np.bincount(rows, points[columns, axis], len(points)) for axis in range(3)], 1) / count
        share = 0.5 * (np.ones(len(points)) if step < 2 else chest)
        points = points + share[:, None] * (mean - points)
    return points


def drape(
    human: Human,
    garment: Mesh,
    body: Mesh,  # what it collides with, at rest
    material: bpy.types.Material,
    frames: int = 45,
    slack: tuple[float, float, float] = (1.10, 1.05, 1.09),  # the cloth's size over the garment's
    refine: int = 2,  # levels of subdivision before the simulation
) -> bpy.types.Object:
    """The draped garment as a mesh object, with an attribute "rib" that is 1 within cuffs, collar and hem."""
    rest = add_mesh("rest", garment.points, garment.faces, subdivide=refine)
    posed_points = human.skin(garment.points, garment.weights)
    posed = add_mesh("cloth", posed_points, garment.faces, garment.uv, garment.uv_faces, subdivide=refine)
    cut, faces = evaluated_points(rest)
    graph = bpy.context.evaluated_depsgraph_get()
    fine = bpy.data.meshes.new_from_object(posed.evaluated_get(graph), depsgraph=graph)
    posed.modifiers.clear()
    posed.data = fine
    bpy.data.objects.remove(rest)

    border = edge_distance(cut, faces)
    middle = cut.mean(0)
    # Sleeves point sideways at rest, so the first factor is their length.
    cut_larger = middle + (cut - middle) * slack
    # The collar and the hem hold; between them the cloth hangs. Cuffs slide but do not fall off the wrist.
    pin = np.clip((0.045 - border) / 0.03, 0, 1)
    group = posed.vertex_groups.new(name="pin")
    for vertex, weight in enumerate(pin):
        if weight > 0:
            group.add([vertex], float(weight), "REPLACE")
    posed.shape_key_add(name="Basis")
    key = posed.shape_key_add(name="cut")
    key.value = 0.0  # the cut gives lengths alone; the cloth starts as posed
    key.data.foreach_set("co", cut_larger.ravel().astype(np.float32))

    collider = add_mesh("collider", human.skin(body.points, human.weights), body.faces)
    collision = collider.modifiers.new("collision", "COLLISION")
    collision.settings.thickness_outer = 0.006
    collision.settings.cloth_friction = 12.0
    cloth = posed.modifiers.new("cloth", "CLOTH")
    settings = cloth.settings
    settings.quality = 6
    settings.mass = 0.25
    settings.tension_stiffness = settings.compression_stiffness = 20.0
    settings.shear_stiffness = 8.0
    settings.bending_stiffness = 0.4
    settings.tension_damping = settings.compression_damping = 12.0
    settings.bending_damping = 1.0
    settings.air_damping = 3.0
    settings.vertex_group_mass = "pin"
    settings.rest_shape_key = key
    cloth.collision_settings.distance_min = 0.004
    cloth.collision_settings.collision_quality = 3
    cloth.point_cache.frame_end = frames
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames
    for number in range(1, frames + 1):
        scene.frame_set(number)
    points = settle(*evaluated_points(posed))
    bpy.data.objects.remove(collider)
    posed.modifiers.clear()
    posed.shape_key_clear()
    posed.data.vertices.foreach_set("co", points.ravel().astype(np.float32))
    posed.data.attributes.new("rib", "FLOAT", "POINT").data.foreach_set(
        "value", np.clip((0.040 - border) / 0.004, 0, 1).astype(np.float32)
    )
    posed.data.shade_smooth()
    posed.data.materials.clear()
    posed.data.materials.append(material)
    finish(posed)
    return posed


def finish(cloth: bpy.types.Object) -> None:
    """Give the simulated sheet its thickness and a smooth surface."""
    thick = cloth.modifiers.new("thick", "SOLIDIFY")
    thick.thickness, thick.offset = 0.0035, 1.0
    smooth = cloth.modifiers.new("subdivide", "SUBSURF")
    smooth.levels = smooth.render_levels = 1
