"""From what lies in the work folder to shards: every clip put together, in the order of sources, tracks and time."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from avatar.conditions import movement_box
from avatar.data.clips import FPS, FRAME_SAMPLES, SAMPLE_RATE, Clip
from avatar.data.pixels import encode_sound
from avatar.data.shards import MANIFEST, ShardWriter
from train.prepare_cache import Work, key_of
from train.prepare_settings import PrepareConfig, SplitConfig
from train.prepare_stages import Networks, Track, clip_path, load_points, load_sound, part_boxes
from train.prepare_tracks import Crop

STATE = "prepared.json"


def split_of(sources: Sequence[str], config: SplitConfig) -> dict[str, str]:
    """Each source's split. A source's place depends on its name (or folder) and the seed alone, but that there is at
    least one of each as soon as there are two to share out."""
    groups = {source: str(Path(source).parent) if config.by == "folder" else source for source in sources}
    if config.val_names:
        return {source: "val" if any(name in source for name in config.val_names) else "train" for source in sources}
    places = {group: _place(f"{config.seed} {group}") for group in set(groups.values())}
    chosen = {group for group, place in places.items() if place < config.val_share}
    if not chosen and config.val_share and len(places) > 1:
        chosen = {min(places, key=lambda group: places[group])}
    if len(chosen) == len(places) and len(places) > 1:
        chosen.remove(max(places, key=lambda group: places[group]))
    if len(places) == 1:
        chosen = set()  # all there is; `clip_rows` holds its end out
    return {source: "val" if group in chosen else "train" for source, group in groups.items()}


def _place(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def clip_rows(
    tracks: Sequence[tuple[Track, Mapping[str, Any]]], splits: Mapping[str, str], config: PrepareConfig
) -> list[dict[str, Any]]:
    """What is known of every clip without opening it, in order: what the shards' name and the report are made from."""
    rows = []
    for track, summary in sorted(tracks, key=lambda pair: (pair[0].source, pair[0].number)):
        for clip in summary["clips"]:
            sound = summary["sound"]
            rows.append(
                {
                    "key": _clip_key(track, clip["start"]),
                    "source": track.source,
                    "track": track.number,
                    "start_s": round(track.start_s + clip["start"] / FPS, 3),
                    "frames": clip["stop"] - clip["start"],
                    "height": summary["crop"]["size"][0],
                    "width": summary["crop"]["size"][1],
                    "split": splits[track.source],
                    "sound": bool(sound["key"]) and not sound["reason"],
                    "silent_because": "" if track.media.photo else sound["reason"],
                    "photo": track.media.photo,
                    "measures": {**clip["measures"], **sound["measures"]},
                    "clip": clip,
                    "summary": {name: value for name, value in summary.items() if name not in ("clips", "refused")},
                }
            )
    if len({row["source"] for row in rows}) == 1 and config.split.val_share and not config.split.val_names:
        held = max(1, round(config.split.val_share * len(rows))) if len(rows) > 1 else 0
        for row in rows[len(rows) - held :]:  # of one video alone, its end
            row["split"] = "val"
    return rows


def _clip_key(track: Track, start: int) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(track.source).stem)[:24].strip("_")
    place = hashlib.blake2b(track.source.encode(), digest_size=4).hexdigest()
    return f"{name or 'clip'}_{place}_{track.number:04d}_{start:06d}"


def write_shards(
    work: Work,
    folder: Path,
    tracks: Sequence[tuple[Track, Mapping[str, Any]]],
    rows: Sequence[Mapping[str, Any]],
    config: PrepareConfig,
    networks: Networks,
) -> Iterator[None]:
    """Write the shards unless they are there; yields once a clip. Other shards of an earlier run are removed."""
    name = key_of("shards", list(rows), config.shard_mb, asdict(networks))
    if is_whole(folder, name):
        return
    (folder / STATE).unlink(missing_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # nobody should read a manifest of other shards meanwhile
    by_track = {(track.source, track.number): track for track, _ in tracks}
    with ShardWriter(folder, config.shard_mb << 20) as writer:
        for row in rows:
            writer.write(put_together(work, by_track[row["source"], row["track"]], row, config, networks))
            yield
    kept = {row["shard"] for row in writer.rows}
    for old in [*folder.glob("train-*.tar"), *folder.glob("val-*.tar")]:
        if old.name not in kept:
            old.unlink()
    files = {file: (folder / file).stat().st_size for file in sorted(kept | {MANIFEST})}
    part = folder / f".{STATE}.part"
    part.write_text(json.dumps({"name": name, "files": files}), encoding="utf-8")
    os.replace(part, folder / STATE)


def is_whole(folder: Path, name: str) -> bool:
    """Whether the shards of this name lie in the folder, all of them with their sizes."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        sizes = {file: (folder / file).stat().st_size for file in state["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return bool(state["name"] == name and sizes == state["files"])


def put_together(work: Work, track: Track, row: Mapping[str, Any], config: PrepareConfig, networks: Networks) -> Clip:
    """One clip from its pieces."""
    clip, summary = row["clip"], row["summary"]
    start, stop = clip["start"], clip["stop"]
    crop = Crop(**{**summary["crop"], "size": tuple(summary["crop"]["size"])})
    keypoints, depth = load_points(work, summary["detect"], track, config.detect.smooth)
    keypoints, depth = crop.applied(keypoints[start:stop]), depth[start:stop] * np.float32(crop.scale)
    with np.load(clip_path(work, summary["render"], start, ".npz")) as file:
        clarity, lengths, crops = file["clarity"], file["lengths"], file["crops"].tobytes()
    ends = np.cumsum(lengths)
    strips = tuple(crops[b - n : b] for n, b in zip(lengths, ends, strict=True)) if len(lengths) else None
    meta: dict[str, Any] = {
        **{name: row[name] for name in ("key", "source", "track", "start_s", "frames", "height", "width", "split")},
        "fps": FPS, "sound": row["sound"], "photo": row["photo"], "measures": row["measures"], "crop": summary["crop"],
        "networks": {"detector": _detector(), **asdict(networks)},
        "settings": key_of("track", *(asdict(part) for part in (config.detect, config.crop, config.sound))),
    }  # fmt: skip
    if config.detect.matte_every > 1:  # first frame and step of those with a matte of their own; others are blends
        meta["mattes_at"] = [-start % config.detect.matte_every, config.detect.matte_every]
    sound = None
    if row["sound"]:
        context = round(config.sound.context_s * FPS)
        first = max(0, summary["sound"]["before"] + start - context)
        meta["sound_before"] = summary["sound"]["before"] + start - first
        last = summary["sound"]["before"] + stop + context
        samples = load_sound(work, summary["sound"]["key"])[first * FRAME_SAMPLES : last * FRAME_SAMPLES]
        sound = encode_sound(samples, SAMPLE_RATE)
    states = None
    if row["sound"] and "states" in summary:
        meta["audio_window"] = window = summary["states"]["window"]
        states = np.load(work.path("states", summary["states"]["key"], ".npy"), mmap_mode="r")
        states = np.array(states[start : stop + 2 * window])
    mattes = clip_path(work, summary["render"], start, ".matte.mp4")
    try:
        box = movement_box(keypoints, 1.0)
    except ValueError:  # the shoulders are never in view
        box = np.full(4, np.nan, np.float32)
    return Clip(
        meta=meta,
        video=clip_path(work, summary["render"], start, ".mp4").read_bytes(),
        points=keypoints.points.astype(np.float32),
        confidence=keypoints.confidence,
        depth=depth,
        clarity=clarity,
        movement_box=box,
        boxes=part_boxes(keypoints),
        matte_video=mattes.read_bytes() if mattes.exists() else None,
        sound=sound,
        latents=np.load(work.path("latents", clip["latents"], ".npy")) if "latents" in clip else None,
        audio_states=states,
        crops_jpeg=strips,
    )


def _detector() -> str:
    from importlib.metadata import version

    return f"mediapipe {version('mediapipe')}"
