"""Biovision hierarchy (BVH) motion files: any hierarchy, any channels, read and written.

Letters: F frames, J joints, C channels. Degrees in the file, radians inside; channels apply from left to right. A
position channel replaces the joint's OFFSET on its axis, as motion capture software reads it (checked on
recordings with positions computed elsewhere), and may stand on any joint, not the root alone. End sites are kept.

`read_bvh` refuses with ValueError: text that is no BVH, more than one root, unknown or doubled channels, rows with
another number of values than there are channels, NaN, a frame count that does not agree with the header. Some
recordings of BEAT have that last fault: `strict=False` then takes the rows that are there.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.motion import Motion
from pose.rotations import euler_to_matrix, matrix_to_euler
from pose.skeleton import Skeleton

_CHANNELS = {f"{axis}{kind}" for axis in "XYZ" for kind in ("position", "rotation")}
# Half a unit of the last of six decimals: what a written number cannot tell from the rest offset.
_PRINT_PRECISION = 5e-7


@dataclass
class _Header:
    names: list[str]
    parents: list[int]
    offsets: list[list[float]]
    channels: list[list[str]]
    end_sites: dict[str, NDArray[np.float64]]


def read_bvh(path: str | Path, strict: bool = True) -> Motion:
    """The motion in a BVH file.

    A frame time within 0.05 % of a whole number of frames a second is taken as that number (0.0333333 is 30 fps).
    """
    text = Path(path).read_bytes().decode("utf-8-sig", errors="replace")
    head, *tail = re.split(r"^\s*MOTION\s*$", text, maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)
    if not tail or not head.lstrip().upper().startswith("HIERARCHY"):
        raise ValueError(f"{path} is not a whole BVH file: it must hold HIERARCHY and MOTION")
    header = _parse_header(head.split()[1:], path)
    rows, fps = _parse_frames(tail[0], sum(len(names) for names in header.channels), strict, path)

    frames, joints = len(rows), len(header.names)
    offsets = np.array(header.offsets)
    translations = np.tile(offsets, (frames, 1, 1))
    rotations = np.empty((frames, joints, 3, 3), np.float32)
    moving = False
    column = 0
    for joint, channels in enumerate(header.channels):
        values = rows[:, column : column + len(channels)]
        column += len(channels)
        turning = [i for i, name in enumerate(channels) if name.endswith("rotation")]
        order = "".join(channels[i][0] for i in turning)
        rotations[:, joint] = euler_to_matrix(np.radians(values[:, turning]), order) if order else np.eye(3)
        for i, name in enumerate(channels):
            if name.endswith("position"):
                translations[:, joint, "XYZ".index(name[0])] = values[:, i]
                moving |= joint > 0
    skeleton = Skeleton(tuple(header.names), tuple(header.parents), offsets, header.end_sites)
    return Motion(
        fps,
        skeleton,
        rotations,
        translations[:, 0].astype(np.float32),
        translations=translations.astype(np.float32) if moving else None,
    )


def write_bvh(path: str | Path, motion: Motion, order: str = "XYZ") -> None:
    """Write a BVH file with six decimals: positions on the root and on joints that slide, rotations in `order`.

    With the default order a home motion has BEAT's 431 header lines and 228 channels. The face is not written (BVH has
    no place for it), and a skeleton whose joints do not stand in depth-first order is read back in that order.
    """
    skeleton = motion.skeleton
    sliding = np.zeros(len(skeleton), bool)
    if motion.translations is not None:
        sliding = (np.abs(motion.translations - skeleton.offsets) > _PRINT_PRECISION).any((0, 2))
    sliding[0] = True

    lines = ["HIERARCHY"]
    _write_joint(lines, skeleton, sliding, order, 0, 0)
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.10g}"]

    degrees = np.degrees(matrix_to_euler(motion.rotations, order))
    columns = []
    for joint in _depth_first(skeleton):
        if sliding[joint]:
            columns.append(motion.root_position if joint == 0 else motion.translations[:, joint])  # type: ignore[index]
        columns.append(degrees[:, joint])
    table = io.StringIO()
    np.savetxt(table, np.concatenate(columns, 1) + 0.0, fmt="%.6f")
    Path(path).write_text("\n".join(lines) + "\n" + table.getvalue())


def _parse_header(tokens: list[str], path: str | Path) -> _Header:
    header = _Header([], [], [], [], {})
    stack: list[int] = []  # open joints; -1 is an open end site
    position = 0

    def take(count: int) -> list[str]:
        nonlocal position
        if position + count > len(tokens):
            raise ValueError(f"{path}: the HIERARCHY ends in the middle of a joint; the file is cut off")
        position += count
        return tokens[position - count : position]

    def name_until_brace() -> str:
        words = []
        while (word := take(1)[0]) != "{":
            words.append(word)
        return " ".join(words)

    def numbers(count: int) -> list[float]:
        words = take(count)
        try:
            return [float(word) for word in words]
        except ValueError:
            raise ValueError(f"{path}: OFFSET needs {count} numbers, got {' '.join(words)}") from None

    while position < len(tokens):
        word = take(1)[0]
        keyword = word.upper()
        if keyword in ("ROOT", "JOINT"):
            if (keyword == "ROOT") != (not header.names) or (keyword == "JOINT" and not stack):
                raise ValueError(f"{path}: {word} out of place; one ROOT with JOINTs inside is needed")
            header.parents.append(stack[-1] if stack else -1)
            stack.append(len(header.names))
            header.names.append(name_until_brace())
            header.offsets.append([0.0, 0.0, 0.0])
            header.channels.append([])
        elif keyword == "END":
            name_until_brace()
            stack.append(-1)
        elif keyword == "OFFSET" and stack:
            offset = numbers(3)
            if stack[-1] < 0:
                header.end_sites[header.names[stack[-2]]] = np.array(offset)
            else:
                header.offsets[stack[-1]] = offset
        elif keyword == "CHANNELS" and stack and stack[-1] >= 0:
            count = take(1)[0]
            channels = take(int(count)) if count.isdigit() else []
            if not count.isdigit() or set(channels) - _CHANNELS or len(set(channels)) < len(channels):
                raise ValueError(
                    f"{path}: joint {header.names[stack[-1]]} has channels {count} {' '.join(channels)}; known are "
                    f"{', '.join(sorted(_CHANNELS))}, each once"
                )
            header.channels[stack[-1]] = channels
        elif keyword == "}" and stack:
            stack.pop()
        else:
            raise ValueError(f"{path}: unexpected {word!r} in the HIERARCHY")
    if stack or not header.names:
        raise ValueError(f"{path}: the HIERARCHY is empty or its braces do not close")
    return header


def _parse_frames(text: str, channels: int, strict: bool, path: str | Path) -> tuple[NDArray[np.float64], float]:
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        counted, timed = (line.split(":")[1] for line in lines[:2])
        frames, frame_time = int(counted), float(timed)
    except (ValueError, IndexError):
        raise ValueError(f"{path}: after MOTION come 'Frames: <number>' and 'Frame Time: <seconds>'") from None
    if not (np.isfinite(frame_time) and frame_time > 0):
        raise ValueError(f"{path}: Frame Time must be positive, got {frame_time}")
    rows = [line.split() for line in lines[2:]]
    if rows and not strict and len(rows[-1]) != channels:
        rows.pop()
    for i, row in enumerate(rows):
        if len(row) != channels:
            raise ValueError(f"{path}: frame {i} holds {len(row)} values, the channels are {channels}")
    if not rows or (strict and len(rows) != frames):
        raise ValueError(
            f"{path}: the header says {frames} frames, the file holds {len(rows)}; if it was not cut off by accident, "
            "read it with strict=False"
        )
    try:
        values = np.array([[float(value) for value in row] for row in rows])
    except ValueError as error:
        raise ValueError(f"{path}: not a number in the frames: {error}") from None
    values = values.reshape(len(rows), channels)
    if not np.isfinite(values).all():
        frame, channel = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"{path}: frame {frame}, channel {channel} is {values[frame, channel]}")
    fps = 1 / frame_time
    return values, float(round(fps)) if round(fps) and abs(fps / round(fps) - 1) < 5e-4 else fps


def _depth_first(skeleton: Skeleton) -> list[int]:
    # BVH nests children inside their parent: the order of channels is the depth-first one.
    children: list[list[int]] = [[] for _ in skeleton.names]
    for joint, parent in enumerate(skeleton.parents[1:], 1):
        children[parent].append(joint)
    order, stack = [], [0]
    while stack:
        order.append(joint := stack.pop())
        stack += reversed(children[joint])
    return order


def _write_joint(
    lines: list[str], skeleton: Skeleton, sliding: NDArray[np.bool_], order: str, joint: int, level: int
) -> None:
    indent, inner = "\t" * level, "\t" * (level + 1)
    name = skeleton.names[joint]
    channels = ["Xposition", "Yposition", "Zposition"] if sliding[joint] else []
    channels += [f"{letter}rotation" for letter in order]
    lines += [
        f"{indent}{'JOINT' if joint else 'ROOT'} {name}",
        indent + "{",
        f"{inner}OFFSET {_three(skeleton.offsets[joint])}",
        f"{inner}CHANNELS {len(channels)} {' '.join(channels)}",
    ]
    for child, parent in enumerate(skeleton.parents):
        if parent == joint:
            _write_joint(lines, skeleton, sliding, order, child, level + 1)
    if name in skeleton.end_sites:
        offset = _three(skeleton.end_sites[name])
        lines += [inner + "End Site", inner + "{", f"{inner}\tOFFSET {offset}", inner + "}"]
    lines.append(indent + "}")


def _three(vector: NDArray[np.float64]) -> str:
    return " ".join(f"{value + 0.0:.6f}" for value in vector)
