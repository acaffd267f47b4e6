"""The trunk where arms hide it: its outline behind them.

Letters: H W image size.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.warp.body import Body
from avatar.warp.parts import TRUNK


def hidden_trunk(labels: np.ndarray, body: Body) -> np.ndarray:
    """Arm pixels (H, W) bool behind which the trunk continues.

    Row by row below the shoulders: the trunk's border is taken where it meets the background and interpolated where
    an arm lies before it, starting at the shoulder; never beyond the person's own outline.
    """
    height, width = body.size
    hidden = np.zeros((height, width), bool)
    first = int(body.shoulders[:, 1].max() + 0.22 * body.unit)
    rows = np.arange(max(first, 0), height)
    if len(rows) < 4 or not body.arms:
        return hidden
    trunk, arms = labels == TRUNK, labels > TRUNK
    for sign, shoulder in (
        (-1, float(body.shoulders[:, 0].min())),
        (1, float(body.shoulders[:, 0].max())),
    ):
        seen = np.full(len(rows), np.nan)  # border against the background
        least = np.full(len(rows), np.nan)  # visible trunk reaches at least here
        most = np.full(len(rows), np.nan)  # the person's outline
        for n, y in enumerate(rows):
            columns = np.nonzero(trunk[y])[0]
            if len(columns) < 4:
                continue
            edge = columns.max() if sign > 0 else columns.min()
            least[n] = edge
            beside = [edge + sign * step for step in (2, 4, 6) if 0 <= edge + sign * step < width]
            if not any(arms[y, b] for b in beside):
                seen[n] = edge
            person = np.nonzero(labels[y] > 0)[0]
            most[n] = person.max() if sign > 0 else person.min()
        known = ~np.isnan(seen)
        # 0.04 sw inside the shoulder joint: the armpit of the 38 photos lies 0.02-0.07 sw inside it
        at = np.concatenate([[rows[0] - 1], rows[known]])
        value = np.concatenate([[shoulder - sign * 0.04 * body.unit], seen[known]])
        border = np.interp(rows, at, value)
        smooth = cv2.GaussianBlur(border.astype(np.float32)[:, None], (1, 21), 4)[:, 0]
        border = np.where(known, border, smooth)
        least, most = np.where(np.isnan(least), border, least), np.where(np.isnan(most), border, most)
        border = sign * np.minimum(np.maximum(sign * border, sign * least), sign * most)
        axis = float(body.neck[0])
        for n, y in enumerate(rows):
            a, b = sorted((int(round(axis)), int(round(border[n]))))
            hidden[y, max(a, 0) : max(b + 1, 0)] = True
    return hidden & arms
