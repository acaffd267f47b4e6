"""The geometric prior: the photo moved by keypoints, and how far to trust every pixel.

Letters: F frames, H W image size, h w box or grid size. A frame is composed of layers of the photo (`layers.py`) that
follow bones (`bones.py`); each layer's inverse map (frame pixel to photo pixel) is small geometry in numpy, and each
pixel is sampled once from the photo, in torch, on the chosen device. Nothing is learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avatar.warp.body import PIXEL_CENTRE, Array, read_body
from avatar.warp.bones import Pose, Rig
from avatar.warp.face import FaceWarp
from avatar.warp.layers import Layer, cut_layers
from avatar.warp.matte import refine_matte
from avatar.warp.mesh import rasterise, skin, soundness
from avatar.warp.parts import find_parts
from avatar.warp.weights import GRID
from pose.keypoints import Keypoints

CHUNK = 4  # frames a thread handles at once: keeps the arrays in the cache
THREADS = 2  # ours: the reference machine has two cores; torch and numpy release the lock
FIELD = 8  # pixels between the points at which the trunk's inverse map is solved
SOLVER_ROUNDS = 5
STILL = 1.0  # pixels of motion from which a doubtful pixel counts as doubtful


@dataclass(frozen=True)
class Prior:
    """`frames` (F, 3, H, W) in [0, 1] and `confidence` (F, 1, H, W) in [0, 1]: 1 where the photo is simply moved, 0
    where the picture is a guess."""

    frames: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Piece:
    """One layer in F frames, within `view` of them: premultiplied colours (F, 3, h, w), coverage and coverage times
    confidence (F, 1, h, w). Names are those of `layers.Layer`, and "background"."""

    name: str
    view: tuple[slice, slice, slice, slice]
    colour: Tensor
    coverage: Tensor
    sure: Tensor


class GeometricPrior:
    """A photo that follows keypoints."""

    def __init__(
        self,
        image: np.ndarray,  # (H, W, 3) uint8 RGB, sides multiples of 64
        reference: Keypoints,  # one frame: the photo's own
        depth: Array,  # (543,) as in Detection
        matte: Array,  # (H, W) in [0, 1]
        device: torch.device | str = "cpu",
        known: Array | None = None,  # (H, W) in [0, 1]: how far the photo itself is to be trusted; None: everywhere
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}; convert it to RGB first"
            )
        if image.shape[0] % 64 or image.shape[1] % 64:
            raise ValueError(f"image sides must be multiples of 64, got {image.shape[:2]}; resize the photo")
        if matte.shape != image.shape[:2] or reference.size != image.shape[:2]:
            raise ValueError(
                f"image {image.shape[:2]}, matte {matte.shape} and keypoints {reference.size} differ in size; "
                "detect on the working image"
            )
        if len(reference) != 1 or np.shape(depth) != reference.points.shape[1:2]:
            raise ValueError(
                f"expected one reference frame and depth (543,), got {len(reference)} and {np.shape(depth)}"
            )
        self.size = reference.size
        self.device = torch.device(device)
        self.body = read_body(reference, np.asarray(depth, np.float32))
        self.rig = Rig(reference, self.body)
        fine = refine_matte(image, matte, self.body)
        self.layers = cut_layers(image, fine, self.body, find_parts(image, fine, self.body))
        self.face = FaceWarp(image, self.body.face + PIXEL_CENTRE) if self.body.face is not None else None
        self._textures = {id(layer): self._tensor(layer.texture) for layer in (self.layers.trunk, *self.layers.front)}
        self._background, self._halo = self._tensor(self.layers.background), self._tensor(self.layers.halo)
        self._open = self._tensor(self.layers.open)
        self._known = None if known is None else self._tensor(known)
        if self._known is not None:
            self._open *= self._known
            for texture in self._textures.values():
                texture[4] *= self._known
        rows, columns = (np.nonzero(self.layers.trunk.texture[3].max(axis))[0] for axis in (1, 0))
        self._trunk_rest = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        self._weights = np.stack([self.layers.head, *self.layers.arms.values()], -1).astype(np.float32)

    def _tensor(self, a: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(self.device)

    def silhouette(self) -> GeometricPrior:
        """The same person in white on black: the frames that it renders are mattes."""
        white = copy(self)
        white._textures = {
            key: torch.cat([texture[3:4].expand(3, -1, -1), texture[3:]]) for key, texture in self._textures.items()
        }
        white._background, white._halo = torch.zeros_like(self._background), torch.zeros_like(self._halo)
        white.face = None
        return white

    def render(self, keypoints: Keypoints) -> Prior:
        """The photo at these keypoints, frame by frame; at the reference keypoints it is the photo."""
        self._check(keypoints)
        frames = len(keypoints)
        out = self._empty(frames)
        starts = range(0, frames, CHUNK)

        def work(start: int) -> None:
            part = slice(start, min(start + CHUNK, frames))
            self._render(keypoints[part], out.frames[part], out.confidence[part])

        if len(starts) > 1:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(work, starts))
        elif frames:
            work(0)
        return out

    @torch.no_grad()
    def render_layers(self, keypoints: Keypoints) -> tuple[Prior, list[Piece]]:
        """What `render` gives, and every layer alone in whole frames, back to front.

        One over the other they are the frames of `render`; here none hides another. All frames at once: give few.
        """
        self._check(keypoints)
        out = self._empty(len(keypoints))
        pose = self.rig.pose(keypoints)
        moved, maps = self._moved(pose)
        background = torch.addcmul(self._background, maps[:, 3:], self._halo)
        pieces = list(self._pieces(pose, moved, maps))
        self._compose(pieces, maps[:, 3:], out.frames.copy_(background), out.confidence)
        full = (slice(None),) * 4
        whole = [Piece("background", full, background, *self._background_cover(len(keypoints)))]
        for piece in pieces:
            parts = []
            for part in (piece.colour, piece.coverage, piece.sure):
                parts.append(part.new_zeros(len(part), part.shape[1], *self.size))
                parts[-1][piece.view] = part.clamp(0, 1)
            whole.append(Piece(piece.name, full, *parts))
        return out, whole

    def _background_cover(self, frames: int) -> tuple[Tensor, Tensor]:
        sure = self._open.expand(frames, 1, *self.size)
        return torch.ones_like(sure), sure

    def _empty(self, frames: int) -> Prior:
        return Prior(
            torch.empty((frames, 3, *self.size), device=self.device),
            torch.empty((frames, 1, *self.size), device=self.device),
        )

    def _check(self, keypoints: Keypoints) -> None:
        if keypoints.size != self.size:
            raise ValueError(f"keypoints are of a {keypoints.size} image, the photo is {self.size}; use .resized()")

    def _moved(self, pose: Pose) -> tuple[list[np.ndarray], Tensor]:
        """Vertices of the arms' meshes in these frames; and of the trunk, (F, 4, H, W): photo pixel minus own position
        (x, y), soundness, motion."""
        moved = [skin(layer.mesh, pose.arms[layer.side]) for layer in self.layers.front if layer.mesh is not None]
        field = self._trunk_field(pose)  # (F, H/8, W/8, 2)
        coarse = np.concatenate(
            [field, self._field_soundness(field)[..., None], self._motion(field, moved)[..., None]], -1
        )
        return moved, functional.interpolate(
            self._tensor(coarse.transpose(0, 3, 1, 2)), self.size, mode="bilinear", align_corners=False
        )

    @torch.no_grad()
    def _render(self, keypoints: Keypoints, picture: Tensor, trust: Tensor) -> None:
        pose = self.rig.pose(keypoints)
        moved, maps = self._moved(pose)
        torch.addcmul(self._background, maps[:, 3:], self._halo, out=picture)
        self._compose(self._pieces(pose, moved, maps), maps[:, 3:], picture, trust)

    def _pieces(self, pose: Pose, moved: list[np.ndarray], maps: Tensor) -> Iterator[Piece]:
        """The layers before the background, back to front; raises the motion in `maps` where the face moves."""
        yield self._trunk_piece(pose, maps)
        for layer, vertices in zip(self.layers.front, moved, strict=True):
            piece = self._mesh_piece(layer, vertices, pose)
            if piece is not None:
                yield piece

    def _compose(self, pieces: Iterable[Piece], motion: Tensor, picture: Tensor, trust: Tensor) -> None:
        """Paints the pieces over the background in `picture`, and how far to trust that in `trust`; `motion`
        (F, 1, H, W) is that which `_pieces` raises."""
        trust.copy_(self._open.expand_as(trust))
        for piece in pieces:
            uncovered = 1 - piece.coverage
            picture[piece.view] = torch.addcmul(piece.colour, picture[piece.view], uncovered)
            trust[piece.view] = torch.addcmul(piece.sure, trust[piece.view], uncovered)
        picture.clamp_(0, 1)
        trust.neg_().add_(1).mul_(motion).neg_().add_(1).clamp_(0, 1)  # doubt counts only where something moved
        if self._known is not None:  # what moved has it from its texture
            trust.mul_(torch.lerp(self._known.expand_as(motion), torch.ones_like(motion), motion))

    def _trunk_field(self, pose: Pose) -> Array:
        """Inverse map of the trunk layer on the field's points, by iterating x = M(x)^-1 y with blended bones M."""
        height, width = self.size[0] // FIELD, self.size[1] // FIELD
        own = (np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) * FIELD + (FIELD - 1) / 2).astype(
            np.float32
        )
        bones = [pose.head, *(pose.arms[side][:, 1] for side in self.layers.arms)]
        field = np.empty((len(pose.trunk), height, width, 2), np.float32)
        for f in range(len(field)):
            base = pose.trunk[f].astype(np.float32).ravel()
            deltas = np.stack([b[f].astype(np.float32).ravel() - base for b in bones])
            point = own.copy()
            for n in range(SOLVER_ROUNDS):
                at = (point - (GRID - 1) / 2) / GRID
                share = cv2.remap(
                    self._weights, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
                m = share.reshape(height, width, -1) @ deltas + base
                x, y = own[..., 0] - m[..., 2], own[..., 1] - m[..., 5]
                det = m[..., 0] * m[..., 4] - m[..., 1] * m[..., 3]
                det = np.where(np.abs(det) > 0.05, det, 0.05)
                new = np.stack([(m[..., 4] * x - m[..., 1] * y) / det, (m[..., 0] * y - m[..., 3] * x) / det], -1)
                point = new if n < 2 else 0.5 * (point + new)  # damped: strong shoulder turns would oscillate
            field[f] = point - own
        return field

    @staticmethod
    def _field_soundness(field: Array) -> Array:
        """How well the trunk's inverse map keeps lengths, (F, H/8, W/8) in [0, 1]."""
        slope = np.stack(np.gradient(field, FIELD, axis=(2, 1)), -1)  # (F, h, w, 2, 2): of x and y, along x and y
        return soundness(slope + np.eye(2, dtype=np.float32)).astype(np.float32)

    def _motion(self, field: Array, moved: list[np.ndarray]) -> Array:
        """How far anything moves near each point of the field, in units of `STILL`, at most 1; (F, H/8, W/8)."""
        frames, height, width = field.shape[:3]
        motion = np.zeros((frames, height, width), np.float32)
        for layer, vertices in zip(self.layers.front, moved, strict=True):
            assert layer.mesh is not None
            rest = layer.mesh.vertices
            length = np.linalg.norm(vertices - rest, axis=-1).astype(np.float32)
            for place in (np.broadcast_to(rest, vertices.shape), vertices):
                cells = np.floor((place + 0.5) / FIELD).astype(np.int32)
                x, y = cells[..., 0], cells[..., 1]
                seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                frame = np.broadcast_to(np.arange(frames)[:, None], x.shape)
                np.maximum.at(motion, (frame[seen], y[seen], x[seen]), length[seen])
        kernel = np.ones((5, 5), np.uint8)
        for f in range(frames):
            motion[f] = cv2.dilate(motion[f], kernel)
            trunk = np.hypot(field[f, ..., 0], field[f, ..., 1])
            motion[f] = np.clip(np.maximum(motion[f], trunk) / STILL, 0, 1)
        # rounding of the bone fits is below 1e-3 px: exactly still stays exactly still
        motion[motion < 1e-3] = 0
        return motion

    def _sample(self, texture: Tensor, source: Tensor) -> Tensor:
        """Texture (C, H, W) at photo pixels (F, h, w, 2), beyond the frame its border -> (F, C, h, w)."""
        frames = len(source)
        return functional.grid_sample(
            texture.expand(frames, *texture.shape), self._normal(source, self.size), mode="bilinear",
            padding_mode="border", align_corners=True,
        )  # fmt: skip

    @staticmethod
    def _normal(source: Tensor, size: tuple[int, int]) -> Tensor:
        scale = torch.tensor([2 / (size[1] - 1), 2 / (size[0] - 1)], device=source.device)
        return source * scale - 1

    def _trunk_piece(self, pose: Pose, maps: Tensor) -> Piece:
        """Trunk and head; raises the motion (F, 1, H, W) in `maps` where the face moves within the head."""
        x0, y0, x1, y1 = self._trunk_box(maps[:, :2])
        view = (slice(None), slice(None), slice(y0, y1), slice(x0, x1))
        x = torch.arange(x0, x1, device=self.device, dtype=torch.float32)
        y = torch.arange(y0, y1, device=self.device, dtype=torch.float32)[:, None]
        source = torch.stack([maps[:, 0, y0:y1, x0:x1] + x, maps[:, 1, y0:y1, x0:x1] + y], -1)  # (F, h, w, 2)
        face = self._face(pose, source) if self.face is not None else None
        drawn = self._sample(self._textures[id(self.layers.trunk)], source)
        colour, alpha, sure = drawn[:, :3], drawn[:, 3:4], drawn[:, 4:]
        limit = torch.tensor([self.size[1], self.size[0]], device=self.device, dtype=torch.float32) - 0.5
        inside = ((source > -0.5) & (source < limit)).all(-1)
        sure = sure * maps[:, 2:3, y0:y1, x0:x1] * inside[:, None]
        if face is not None:
            box, overlay, doubt = face
            part = (slice(None), slice(None), slice(box[1], box[3]), slice(box[0], box[2]))
            colour[part] = colour[part] * (1 - overlay[:, 3:]) + overlay[:, :3] * alpha[part]
            sure[part] *= 1 - doubt
            motion = maps[:, 3:, y0:y1, x0:x1][part]
            motion.copy_(torch.maximum(motion, (doubt * 4).clamp(max=1)))
        return Piece(self.layers.trunk.name, view, colour, alpha, sure)

    def _trunk_box(self, field: Tensor) -> tuple[int, int, int, int]:
        """Where the trunk can be in these frames: its place in the photo and the largest move."""
        reach = int(field.abs().amax()) + 2
        x0, y0, x1, y1 = self._trunk_rest
        return max(x0 - reach, 0), max(y0 - reach, 0), min(x1 + reach, self.size[1]), min(y1 + reach, self.size[0])

    def _face(self, pose: Pose, source: Tensor) -> tuple[tuple[int, int, int, int], Tensor, Tensor] | None:
        """Moves `source` (F, h, w, 2) inside the face (in place); returns the box within `source`, overlay (F, 4, ...)
        and doubt (F, 1, ...) there."""
        assert self.face is not None and pose.face is not None
        fields = [self.face.field(points + np.float32(PIXEL_CENTRE)) for points in pose.face]
        x0, y0, x1, y1 = fields[0].box
        inside = (source[..., 0] > x0) & (source[..., 0] < x1 - 1) & (source[..., 1] > y0) & (source[..., 1] < y1 - 1)
        columns, rows = inside.any(0).any(0).nonzero(), inside.any(0).any(1).nonzero()
        if len(columns) == 0 or len(rows) == 0:
            return None
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        view = source[:, box[1] : box[3], box[0] : box[2]]
        packed = np.stack(
            [np.concatenate([f.displacement, f.overlay, 1 - f.confidence[..., None]], -1) for f in fields]
        )
        local = view - torch.tensor([x0, y0], device=self.device, dtype=torch.float32)
        sampled = functional.grid_sample(
            self._tensor(packed.transpose(0, 3, 1, 2)), self._normal(local, (y1 - y0, x1 - x0)), mode="bilinear",
            padding_mode="zeros", align_corners=True,
        )  # fmt: skip
        view += sampled[:, :2].permute(0, 2, 3, 1)
        return box, sampled[:, 2:6], sampled[:, 6:]

    def _mesh_piece(self, layer: Layer, vertices: np.ndarray, pose: Pose) -> Piece | None:
        """A piece of an arm; None where it is out of sight in all frames."""
        assert layer.mesh is not None
        hand = layer.mesh.weights[:, 3:].sum(1)
        faith = 1 - hand * (1 - pose.hand_turn[layer.side][:, None])
        raster = rasterise(layer.mesh, vertices, faith, self.size)
        if raster is None:
            return None
        x0, y0, x1, y1 = raster.box
        drawn = self._sample(self._textures[id(layer)], self._tensor(raster.source))
        drawn.mul_(torch.from_numpy(raster.hit).to(self.device)[:, None])
        sure = drawn[:, 4:] * self._tensor(raster.sound)[:, None]
        view = (slice(None), slice(None), slice(y0, y1), slice(x0, x1))
        return Piece(layer.name, view, drawn[:, :3], drawn[:, 3:4], sure)
