"""The photo's own face mesh, moved by ARKit coefficients and small turns of the head.

Letters: F frames, V = 478 mesh points, E = 51 coefficients. Pixels have y down; inside, a face has its own frame in
mm (pose/face_shapes.py), so that tilted and turned faces move along their own axes.

Coefficients are absolute: 0 is a closed mouth, whatever the mouth does in the photo. `departure` leads from the photo
(0: its own mesh, exactly) to that (1). What else the photo's face says, a smile or raised brows, stays as its mood;
the eyes are as open at 0 as in the photo.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.face_shapes import LOWER_LIP, UPPER_LIP, build_shapes
from pose.motion import EXPRESSION_NAMES, expression_index

Array = NDArray[np.float32]
Floats = NDArray[np.float64]

EYE_DISTANCE_MM = 88.0  # between the outer corners of the eyes: the mean of adults (Farkas 1994 gives 87 to 91)
# Pairs (right, left) whose differences give the direction across the face.
ACROSS_PAIRS = ((33, 263), (133, 362), (234, 454), (61, 291), (58, 288), (127, 356))
RING_FOLLOWS = np.array([1.0, 0.85, 0.65, 0.5])  # how lip rings, inner to outer, give way where lips press
JAW_SHARE = 0.45  # part of the photo's own mouth opening that closing takes from the jaw, the rest from the lips


def lip_opening(points: Array) -> Array:
    """Height of the inner mouth opening over the distance of the outer eye corners, (F,), for points (F, V, 2)."""
    gap = (points[:, [82, 13, 312]] - points[:, [87, 14, 317]]).mean(axis=1)
    return np.linalg.norm(gap, axis=-1) / np.linalg.norm(points[:, 33] - points[:, 263], axis=-1)


class FaceRig:
    """Moves one face: `points` (V, 2) pixels of the photo, `depth` (V,) pixels, positive away from the camera.

    `mm` is the number of pixels of a millimetre of the face, `axes` (3, 3) its x, y, z directions (rows; image x,
    up, towards the camera), `pivot` (3,) the point of the neck about which the head turns, in the same axes with y up.
    """

    def __init__(self, points: Array, depth: Array) -> None:
        if points.shape != (478, 2) or depth.shape != (478,):
            raise ValueError(f"expected points (478, 2) and depth (478,), got {points.shape} and {depth.shape}")
        if not (np.isfinite(points).all() and np.isfinite(depth).all()):
            raise ValueError("the face points must be finite; check that a face was detected")
        space = np.column_stack([points[:, 0], -points[:, 1], -depth]).astype(np.float64)
        self.mm = float(np.linalg.norm(space[263] - space[33])) / EYE_DISTANCE_MM
        if self.mm <= 0:
            raise ValueError("the eyes of the face lie in one point; check that a face was detected")
        x = sum((space[left] - space[right] for right, left in ACROSS_PAIRS), np.zeros(3))
        x /= np.linalg.norm(x)
        y = space[10] - space[152]
        y -= x * (y @ x)
        y /= np.linalg.norm(y)
        self.axes: Floats = np.stack([x, y, np.cross(x, y)])
        self._origin = space[[33, 263]].mean(axis=0)
        self._own = (space - self._origin) @ self.axes.T / self.mm
        self._photo = np.asarray(points, np.float32)

        self._rest = self._closed(self._own)
        self.shapes = build_shapes(self._rest)
        # The neck's middle at the height of the mouth, 25 mm behind the ears' front edge.
        neck = self._own[[234, 454]].mean(axis=0) + (0, -45, -25)
        self.pivot: Floats = self._origin + self.mm * neck @ self.axes

    def points(
        self,
        expression: Array | None = None,  # (F, E)
        head_rotation: Array | None = None,  # (F, 3, 3) relative to the photo; axes x right, y up, z to the camera
        departure: Array | None = None,  # (F,) in [0, 1]; None: 1, or 0 without an expression
    ) -> Array:
        """The mesh in each frame, (F, V, 2) pixels; with departure 0 and no turn, exactly the photo's.

        Values outside [0, 1] are clipped. The head turns about the neck in weak perspective with the mesh's own depth.
        """
        if expression is None and head_rotation is None:
            raise ValueError("give an expression (F, 51), a head_rotation (F, 3, 3) or both")
        frames = len(expression if expression is not None else head_rotation)  # type: ignore[arg-type]
        for name, value, shape in (
            ("expression", expression, (frames, len(EXPRESSION_NAMES))),
            ("head_rotation", head_rotation, (frames, 3, 3)),
            ("departure", departure, (frames,)),
        ):
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} must be {shape}, got {value.shape}")
        offset = np.zeros((frames, 478, 3))  # mm, from the photo's own mesh
        if expression is not None:
            offset = self._moved(np.clip(expression, 0, 1).astype(np.float64)) - self._own
            if departure is not None:
                offset *= np.clip(departure, 0, 1)[:, None, None]
        # Pixels are the photo's own plus differences, so that a face at rest is the photo's to the last bit.
        shift = self.mm * offset @ self.axes
        if head_rotation is not None:
            space = self._origin + self.mm * self._own @ self.axes + shift - self.pivot
            shift += space @ (np.swapaxes(head_rotation, 1, 2) - np.eye(3))
        return (self._photo + shift[..., :2] * (1, -1)).astype(np.float32)

    def _moved(self, expression: Floats) -> Floats:
        """The face under absolute coefficients, (F, V, 3) mm."""
        close, jaw = expression_index("mouthClose"), expression_index("jawOpen")
        expression = expression.copy()
        expression[:, close] = np.minimum(expression[:, close], expression[:, jaw])  # it closes what the jaw opens
        face = self._rest + np.tensordot(expression, self.shapes.basis, axes=1)
        for side, lids in self.shapes.lids.items():
            blink, squint, wide, down, up = (
                expression[:, expression_index(f"eye{name}{side}")]
                for name in ("Blink", "Squint", "Wide", "LookDown", "LookUp")
            )
            # The upper lid follows the gaze; chosen by hand: half of its way down, a tenth of its way up.
            aperture = (1 - blink) * (1 - 0.4 * squint) * (1 - 0.45 * down) + (1 - blink) * (0.25 * wide + 0.1 * up)
            face += (1 - aperture)[:, None, None] * lids
        return self._touching(face, self.shapes.lip_skin)

    def _closed(self, own: Floats) -> Floats:
        """The face with its mouth closed: the jaw takes its share of the opening, both lips the rest."""
        shapes = build_shapes(own)
        gap = max(0.0, own[UPPER_LIP[0, 5], 1] - own[LOWER_LIP[0, 5], 1])
        rest = own + JAW_SHARE * gap / shapes.jaw_turn[LOWER_LIP[0, 5], 1] * shapes.jaw_turn
        return self._touching(rest, shapes.lip_skin, exactly=True)

    def _touching(self, face: Floats, skin: Floats, exactly: bool = False) -> Floats:
        """Faces (..., V, 3) whose lips do not cross; `exactly` joins them in every way. Both lips give way by half."""
        push = (face[..., LOWER_LIP[0], :] - face[..., UPPER_LIP[0], :]) / 2  # (..., 11, 3) mm, of the upper lip
        if not exactly:
            push = np.clip(push, 0, None) * np.array([0.0, 1.0, 0.0])
        face = face.copy()
        for ring, follows in enumerate(RING_FOLLOWS):
            face[..., UPPER_LIP[ring], :] += follows * push
            face[..., LOWER_LIP[ring, 1:-1], :] -= follows * push[..., 1:-1, :]
        outer = RING_FOLLOWS[-1] * push
        face += skin @ np.concatenate([outer, -outer], axis=-2)
        return face
