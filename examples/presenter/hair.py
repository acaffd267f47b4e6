"""Hair, brows and lashes as curves.

Letters: N strands, K points of a strand. Blender's axes and metres: z up, the person faces -y.

A strand starts on the scalp, leaves along the comb (away from the parting, over the skull), bends into the pull of
gravity and slides over the head and neck at its own height above the skin, which gives the hair its body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from presenter.human import Array, Human, to_blender, unit
from scipy.interpolate import PchipInterpolator
from scipy.spatial import cKDTree


@dataclass
class Head:
    """Landmarks of the posed head in metres."""

    centre: Array  # between the ears
    eye: float  # height of the eyes
    chin: float


class Surface:
    """Signed distance to a dense point set with normals (a head is smooth enough for that)."""

    def __init__(self, points: Array, normals: Array) -> None:
        self.tree, self.points, self.normals = cKDTree(points), points, normals

    def distance(self, points: Array) -> tuple[Array, Array]:
        """(N,) metres above the surface, negative inside, and (N, 3) normals there."""
        _, near = self.tree.query(points, k=4)
        normals = unit(self.normals[near].mean(1))
        return ((points[:, None] - self.points[near]) * self.normals[near]).sum(-1).mean(1), normals


def vertex_normals(points: Array, faces: list[list[int]]) -> Array:
    normals = np.zeros_like(points)
    ring = np.array([[*face, face[-1]][:4] for face in faces])
    cross = np.cross(points[ring[:, 2]] - points[ring[:, 0]], points[ring[:, 3]] - points[ring[:, 1]])
    for corner in range(4):
        np.add.at(normals, ring[:, corner], cross)
    return unit(normals)


def scalp_mask(human: Human) -> Array:
    """(V,) in [0, 1] on the base mesh at rest: where hair grows, by a hairline given as height over azimuth."""
    eye = human.head("eye.L")
    body = np.unique([i for face, group in zip(human.mesh.faces, human.mesh.groups, strict=True)
                      if group == "body" for i in face])  # fmt: skip
    top = human.points[body, 1].max()
    ears = human.mask(["ears/l-ear-scale-incr", "ears/r-ear-scale-incr"])
    middle = human.points[ears > 0.3].mean(0)
    x, y, z = (human.points - [0.0, 0.0, middle[2] + 0.1]).T
    azimuth = np.degrees(np.arctan2(np.abs(x), z))  # 0 in front, 180 behind
    height = (y - eye[1]) / (top - eye[1])
    # Chosen by hand: forehead, receding temple, sideburn, over the ear, behind it, nape.
    angle = [0, 22, 40, 54, 66, 76, 88, 100, 114, 135, 180]
    line = [0.55, 0.56, 0.52, 0.37, 0.12, -0.02, 0.10, 0.05, -0.35, -0.72, -0.78]
    mask = np.clip((height - PchipInterpolator(angle, line)(azimuth)) / 0.07, 0, 1)
    mask[ears > 0.04] = 0
    mask[y < eye[1] - 1.2] = 0
    return mask


def roots(
    points: Array, faces: list[list[int]], mask: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """(count, 3) places spread evenly over the masked faces, and the normals there."""
    normals = vertex_normals(points, faces)
    triangles = np.array([[face[0], face[i], face[i + 1]] for face in faces for i in range(1, len(face) - 1)])
    triangles = triangles[mask[triangles].max(1) > 0]
    corners = points[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = rng.choice(len(triangles), 3 * count, p=area / area.sum())
    share = rng.dirichlet([1, 1, 1], 3 * count)
    keep = rng.random(3 * count) < (mask[triangles[chosen]] * share).sum(1)
    chosen, share = chosen[keep][:count], share[keep][:count]
    blend = share[..., None]
    return (points[triangles[chosen]] * blend).sum(1), unit((normals[triangles[chosen]] * blend).sum(1))


def find_head(human: Human, place: Array, body_faces: list[list[int]]) -> Head:
    """The landmarks, of base vertices (V, 3) posed and in Blender's axes."""
    eye = to_blender(human.place(0.5 * (human.head("eye.L") + human.head("eye.R")), "head"))
    ears = human.mask(["ears/l-ear-scale-incr", "ears/r-ear-scale-incr"]) > 0.3
    body = place[np.unique([i for face in body_faces for i in face])]
    front = body[(np.abs(body[:, 0]) < 0.02) & (body[:, 1] < eye[1] + 0.02)]
    below = eye[2] - front[:, 2]
    chin = front[(below > 0.08) & (below < 0.15), 2].min()
    return Head(place[ears].mean(0), eye[2], chin)


def resample(paths: Array, count: int) -> Array:
    """(N, S, 3) -> (N, count, 3), even in arc length."""
    steps = np.linalg.norm(np.diff(paths, axis=1), axis=2)
    length = np.concatenate([np.zeros((len(paths), 1)), np.cumsum(steps, 1)], 1)
    result = np.empty((len(paths), count, 3))
    for number, (path, along) in enumerate(zip(paths, length, strict=True)):
        where = np.linspace(0, along[-1], count)
        for axis in range(3):
            result[number, :, axis] = np.interp(where, along, path[:, axis])
    return result


def grow_long(
    start: Array,  # (N, 3) roots
    normals: Array,
    surface: Surface,
    head: Head,
    parting: float,  # x of the parting, metres
    end: float,  # height at which the hair is cut
    volume: float,  # metres of the outermost layer above the skull
    face_width: float,  # half of what the hair leaves free of the face
    rng: np.random.Generator,
    points: int = 36,
) -> Array:
    """(N, points, 3) strands that fall from a parting to a blunt, slightly rounded edge."""
    count, step = len(start), 0.006
    side = np.where(start[:, 0] > parting + rng.normal(0, 0.0015, count), 1.0, -1.0)
    layer = 0.003 + volume * rng.random(count) ** 0.9
    cut = end + rng.normal(0, 0.005, count) + 0.02 * (layer / volume - 0.5)
    guides = rng.choice(count, max(2, count // 28), replace=False)
    # A lock's hairs share a guide, on their own side of the parting.
    beside = np.column_stack([start, side])
    _, owner = cKDTree(beside[guides]).query(beside + rng.normal(0, 0.002, beside.shape))
    phase = rng.uniform(0, 2 * np.pi, len(guides))[owner] + rng.normal(0, 0.35, count)
    # Roots lean away from the parting; those in front sweep back before they fall, those of the nape hang.
    front = np.clip((head.centre[1] - start[:, 1]) / 0.07, 0, 1)
    high = np.clip((start[:, 2] - head.eye + 0.01) / 0.05, 0, 1)
    place, direction = start.copy(), normals * 0.22 + np.stack([side * high, 0.9 * front, -0.4 * (1 - high)], 1)
    path, done = [place], np.zeros(count, bool)
    for number in range(int(0.5 / step)):
        travelled = number * step
        fall = min(1.0, travelled / 0.11)
        above, normal = surface.distance(place)
        sideways = side * high * (1 - fall) - 0.10 * side * fall * (np.abs(place[:, 0]) > 0.05)
        back = 1.1 * front * max(0.0, 1 - travelled / 0.08) - 0.05 * fall
        comb = np.stack([sideways, back, -0.3 - 1.2 * fall + 0 * side], 1)
        hugging = above < layer + 0.012
        comb = comb - normal * np.minimum((comb * normal).sum(1), 0)[:, None] * hugging[:, None]
        direction = unit(0.70 * unit(direction) + 0.30 * unit(comb))
        place = place + step * direction
        above, normal = surface.distance(place)
        wanted = layer * min(1.0, 0.22 + travelled / 0.07)
        # Over the skull it also keeps close; lower down it hangs free.
        close = np.clip((place[:, 2] - head.eye + 0.07) / 0.05, 0, 1)
        shift = np.clip(wanted - above, -0.0035 * close, 0.005)
        place = place + normal * shift[:, None]
        # In front of the ears the hair frames the face, and below the jaw it stays beside the neck.
        width = np.where(place[:, 2] > head.chin + 0.03, face_width, 0.8 * face_width) + 0.5 * layer
        near = (place[:, 1] < head.centre[1] - 0.01) & (place[:, 2] < head.eye + 0.045)
        short = np.clip(width - side * place[:, 0], 0, 0.004) * near
        place = place + np.stack([side * short, 0.9 * short, 0 * short], 1)
        # A strand ends at the cut, or where it comes to lie on a shoulder.
        low = place[:, 2] < head.chin
        resting = low & ((above < 0.018) | (np.abs(place[:, 0] - head.centre[0]) > face_width + 0.038))
        done = (path[-1][:, 2] < cut) | resting | done
        place = np.where(done[:, None], path[-1], place)
        path.append(place)
    strands = resample(np.stack(path, 1), points)
    t = np.linspace(0, 1, points)[None, :, None]
    gather = 0.55 * t**1.3
    beside_guide = strands[guides][owner] + 0.35 * (start - start[guides][owner])[:, None]
    strands = strands * (1 - gather) + beside_guide * gather
    wave = np.sin(2 * np.pi * 1.7 * t + phase[:, None, None]) * 0.009 * t**1.1
    outward = unit(start - head.centre)[:, None] * [1, 1, 0]
    across = np.cross(outward, [0, 0, 1.0])
    fray = rng.normal(0, 0.0012, (count, 1, 3)) * np.sin(np.pi * rng.uniform(0.5, 2.5, (count, 1, 1)) * t)
    return strands + wave * (0.7 * outward + 0.7 * across) + fray


def brows(
    card: Array, sides: Array, surface: Surface, tilt: float, rng: np.random.Generator, each: int = 420
) -> Array:
    """(N, 6, 3) hairs along the middle of the eyebrow cards (V, 3): raised at the nose, then swept to the tail.

    `sides` (V,) is 1 on the person's left and -1 on the right. `tilt` (radians) lifts the inner ends and lowers the
    tails, which looks friendlier than the cards' own line.
    """
    hairs = []
    t = np.linspace(0, 1, 6)[None, :, None]
    for side in (1.0, -1.0):
        mine = card[sides == side]
        middle = mine.mean(0)
        line = np.polynomial.Polynomial.fit(mine[:, 0], mine[:, 2], 3)
        depth = np.polynomial.Polynomial.fit(mine[:, 0], mine[:, 1], 3)
        inner, outer = sorted((mine[:, 0].min(), mine[:, 0].max()), key=lambda x: side * x)
        along = 0.04 + 0.94 * rng.random(each) ** 0.9
        x = inner + (outer - inner) * along
        thick = np.interp(along, [0, 0.15, 0.5, 0.75, 1], [0.0019, 0.0029, 0.0026, 0.0018, 0.0005])
        # Half of the cards' arch: a high arch looks stern.
        straight = np.polynomial.Polynomial.fit(mine[:, 0], mine[:, 2], 1)
        z = 0.55 * line(x) + 0.45 * straight(x) + rng.uniform(-1, 1, each) * thick - tilt * side * (x - middle[0])
        place = np.stack([x, depth(x), z], 1)
        above, normal = surface.distance(place)
        place -= normal * (above - 0.0002)[:, None]
        slope = side * (0.55 * line.deriv()(x) + 0.45 * straight.deriv()(x)) - tilt
        angle = np.arctan(slope) + np.radians(44 * (1 - along) ** 1.5 + 5 + rng.normal(0, 5, each))
        length = (0.0058 - 0.0018 * along) * rng.uniform(0.75, 1.1, each)
        flat = np.stack([side * np.cos(angle), 0 * angle, np.sin(angle)], 1)
        flat = unit(flat - normal * (flat * normal).sum(1, keepdims=True)) + 0.10 * normal
        hairs.append(place[:, None] + length[:, None, None] * (t * flat[:, None] + t**2 * [side * 0.2, 0, -0.22]))
    return np.concatenate(hairs)
