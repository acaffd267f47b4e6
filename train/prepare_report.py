"""What a preparation did, for reading: report.md, report.json and a contact sheet.

Contact sheet: of each clip its middle frame with keypoints, darkened where the matte is empty; blue for validation.
After them, framed red, the middle of what was refused.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.data.clips import FPS
from avatar.data.pixels import decode_jpeg, encode_jpeg
from pose.draw import draw_over
from pose.keypoints import Keypoints
from train.prepare_settings import PrepareConfig

Frame = NDArray[np.uint8]
SHEET = "contact_sheet.jpg"
TILE = 160  # pixels, height and width of a tile's picture
CAPTION = 34
COLUMNS = 10
REFUSED_TILES = 40
MEASURES = ("face_px", "hands_seen", "both_hands_seen", "sharpness", "enlarged", "speech", "lip_r")


def summarise(files: Sequence[Mapping[str, Any]], others: Mapping[str, int], config: PrepareConfig) -> dict[str, Any]:
    """Counts of a preparation. `files`: {name, kind, seconds, clips, refused, note} of each file."""
    clips = [clip for file in files for clip in file["clips"]]
    reasons: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for file in files:
        for part in file["refused"]:
            kind = kind_of(part["reason"])
            reasons[kind] += 1
            lost[kind] += part["seconds"]
    splits = {}
    for split in ("train", "val"):
        of_split = [clip for clip in clips if clip["split"] == split]
        splits[split] = {
            "clips": len(of_split),
            "seconds": round(sum(clip["frames"] for clip in of_split) / FPS, 2),
            "with sound": sum(clip["sound"] for clip in of_split),
            "sources": len({clip["source"] for clip in of_split}),
        }
    silent = Counter(kind_of(clip["silent_because"]) for clip in clips if clip["silent_because"])
    sizes = Counter(f"{clip['height']} x {clip['width']}" for clip in clips)
    return {
        "files": {
            "videos": sum(file["kind"] == "video" for file in files),
            "photos": sum(file["kind"] == "photo" for file in files),
            "without a clip": sum(not file["clips"] for file in files),
            "left aside by name": dict(sorted(others.items())),
        },
        "seconds": {
            "raw": round(sum(file["seconds"] for file in files), 2),
            "kept": round(sum(clip["frames"] for clip in clips if not clip["photo"]) / FPS, 2),
        },
        "splits": splits,
        "sizes": dict(sizes.most_common()),
        "without sound because": dict(silent.most_common()),
        "refused": {kind: {"times": n, "seconds": round(lost[kind], 2)} for kind, n in reasons.most_common()},
        "measures": {name: spread for name in MEASURES if (spread := _spread(name, clips))},
        "of each file": [_row(file) for file in files],
    }


def joined(refused: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Refused stretches of a file by time; neighbours with one reason, such as parts of a long file, are one."""
    found: list[dict[str, Any]] = []
    for part in sorted(refused, key=lambda part: part["start_s"]):
        last = found[-1] if found else None
        if (
            last
            and last["reason"] == part["reason"]
            and abs(last["start_s"] + last["seconds"] - part["start_s"]) < 0.02
        ):
            last["seconds"] = round(last["seconds"] + part["seconds"], 2)
        else:
            found.append(dict(part))
    return found


def kind_of(reason: str) -> str:
    """A reason without its numbers."""
    head = reason.split("; ")[0].split(": ")[0].split(" (")[0]
    words = [word for word in head.split(", at ")[0].split() if not any(c.isdigit() for c in word)]
    return " ".join(words)


def _spread(name: str, clips: Sequence[Mapping[str, Any]]) -> list[float]:
    values = [clip["measures"][name] for clip in clips if name in clip["measures"]]
    return [round(float(v), 3) for v in np.percentile(values, [0, 50, 100])] if values else []


def _row(file: Mapping[str, Any]) -> dict[str, Any]:
    kept = sum(clip["frames"] for clip in file["clips"])
    reasons = [f"{p['start_s']:g}-{p['start_s'] + p['seconds']:g} s: {p['reason']}" for p in file["refused"]]
    if file["kind"] == "photo" or not file["seconds"]:
        reasons = [part["reason"] for part in file["refused"]]
    silent = sorted({clip["silent_because"] for clip in file["clips"] if clip["silent_because"]})
    return {
        "file": file["name"],
        "seconds": round(file["seconds"], 2),
        "kept": round(kept / FPS, 2) if file["kind"] == "video" else 0.0,
        "clips": len(file["clips"]),
        "split": file["clips"][0]["split"] if file["clips"] else "",
        "size": "{height} x {width}".format(**file["clips"][0]) if file["clips"] else "",
        "without sound": silent,
        "refused": reasons,
        "note": file["note"],
    }


def as_markdown(summary: Mapping[str, Any], identities: Mapping[str, str]) -> str:
    """The summary as a page."""
    files, seconds, splits = summary["files"], summary["seconds"], summary["splits"]
    lines = ["# What was prepared", ""]
    lines.append(f"{files['videos']} videos ({seconds['raw']:g} s) and {files['photos']} photos were looked at.")
    lines.append(f"{seconds['kept']:g} s of video are kept; {files['without a clip']} files gave nothing.")
    if files["left aside by name"]:
        said = ", ".join(f"{count} {suffix}" for suffix, count in files["left aside by name"].items())
        lines.append(f"Left aside, neither video nor photo by name: {said}.")
    lines += ["", "| split | sources | clips | seconds | with sound |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {s['sources']} | {s['clips']} | {s['seconds']:g} | {s['with sound']} |"
        for name, s in splits.items()
    ]
    lines += ["", "| size | clips |", "|---|---|", *(f"| {size} | {n} |" for size, n in summary["sizes"].items())]
    if summary["refused"]:
        lines += ["", "| refused because | times | seconds |", "|---|---|---|"]
        lines += [f"| {kind} | {r['times']} | {r['seconds']:g} |" for kind, r in summary["refused"].items()]
    if summary["without sound because"]:
        lines += ["", "| kept without sound because | clips |", "|---|---|"]
        lines += [f"| {kind} | {n} |" for kind, n in summary["without sound because"].items()]
    if summary["measures"]:
        lines += ["", "| measure of the clips | least | median | most |", "|---|---|---|---|"]
        lines += [f"| {name} | {a:g} | {b:g} | {c:g} |" for name, (a, b, c) in summary["measures"].items()]
    lines += ["", *(f"{name}: {identity}" for name, identity in identities.items() if identity)]
    lines += ["", "| file | s | kept s | clips | size | split | remarks |", "|---|---|---|---|---|---|---|"]
    for row in summary["of each file"]:
        remarks = [*row["refused"], *(f"no sound: {reason}" for reason in row["without sound"])]
        remarks += [row["note"]] if row["note"] else []
        said = "; ".join(remarks).replace("|", "/")
        lines.append(
            f"| {row['file']} | {row['seconds']:g} | {row['kept']:g} | {row['clips']} | {row['size']} | "
            f"{row['split']} | {said} |"
        )
    return "\n".join(lines) + "\n"


def save_report(folder: Path, summary: Mapping[str, Any], identities: Mapping[str, str]) -> bool:
    """Write report.md and report.json; false if they say so already."""
    text = json.dumps({**summary, "networks": dict(identities)}, indent=1)
    target = folder / "report.json"
    if target.is_file() and (folder / SHEET).is_file() and target.read_text(encoding="utf-8") == text:
        return False
    (folder / "report.md").write_text(as_markdown(summary, identities), encoding="utf-8")
    (folder / SHEET).unlink(missing_ok=True)
    target.write_text(text, encoding="utf-8")
    return True


def thumbnail(frame: Frame, matte: Frame | None, keypoints: Keypoints) -> Frame:
    """A tile's picture: frame (H, W, 3) darkened by its matte (H, W), with the keypoints (F = 1) drawn over."""
    shown = frame.astype(np.float32)
    if matte is not None:
        shown *= 0.35 + 0.65 * (matte[..., None] / np.float32(255))
    return _fitted(draw_over(shown.astype(np.uint8), keypoints))


def contact_sheet(tiles: Sequence[tuple[bytes | Frame | None, str, str]], path: Path) -> None:
    """Write tiles (picture, caption, "train", "val" or "refused") as one JPEG."""
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.full((max(rows, 1) * (TILE + CAPTION), COLUMNS * TILE, 3), 255, np.uint8)
    colours = {"train": (0, 0, 0), "val": (30, 60, 220), "refused": (200, 20, 20)}
    for number, (picture, caption, kind) in enumerate(tiles):
        top, left = number // COLUMNS * (TILE + CAPTION), number % COLUMNS * TILE
        if picture is not None:
            image = decode_jpeg(picture) if isinstance(picture, bytes) else _fitted(picture)
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
        if kind == "refused":
            cv2.rectangle(sheet, (left + 1, top + 1), (left + TILE - 3, top + TILE - 2), colours[kind], 2)
        for line, text in enumerate(textwrap.wrap(caption, 27)[:3]):
            place = (left + 2, top + TILE + 10 + 10 * line)
            cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.31, colours[kind], 1, cv2.LINE_AA)
    path.write_bytes(encode_jpeg(sheet))


def _fitted(image: Frame) -> Frame:
    """The image within a tile."""
    scale = min(TILE / image.shape[0], (TILE - 2) / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
