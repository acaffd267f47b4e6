"""The work on one file, one part of it, one track in it: functions of plain arguments that any process may run.

Each looks first whether its result is there. A result is JSON; pixels, points, sound and latents lie beside it in the
work folder (train/prepare_stages.py), made from the names of what they depend on:

    file -> scan -> detect -> render -> latents
         -> sound -> states

F frames.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from avatar.data.clips import FPS
from pose.images import load_image
from train.prepare_cache import Work, file_digest, key_of
from train.prepare_media import PHOTOS, Media, Scanner, plain, probe, shrunk
from train.prepare_settings import PrepareConfig
from train.prepare_stages import (
    Networks,
    Track,
    clip_path,
    detect,
    finder,
    followed,
    hear,
    latents,
    load_points,
    render,
    states,
)
from train.prepare_tracks import Faces, cut_clips, find_tracks, judge_keypoints, plan_crop


def examine(work: Work, root: Path, source: str) -> dict[str, Any]:
    """What a file is: its digest and `Media`, or the reason why it is of no use."""
    path = root / source
    status = path.stat()
    key = key_of("file", source, status.st_size, status.st_mtime_ns)
    if (found := work.json("file", key)) is not None:
        return found
    try:
        if path.suffix.lower() in PHOTOS:
            height, width = load_image(path).shape[:2]
            media = Media(0.0, height, width, False)
        else:
            media = probe(path)
    except ValueError as error:
        return work.save_json("file", key, {"reason": _one_line(error, path)})
    return work.save_json("file", key, {"digest": file_digest(path), "media": asdict(media)})


def scan(
    work: Work,
    root: Path,
    source: str,
    digest: str,
    media: Media,
    start_s: float,
    seconds: float,
    config: PrepareConfig,
) -> Any:
    """Faces and cuts of one part of a file."""
    key = key_of("scan", digest, start_s, seconds, replace(config.scan, max_minutes=None))
    if (found := work.json("scan", key)) is not None:
        return found
    look = finder()
    if media.photo:
        faces = look.faces(load_image(root / source)).tolist()
        return work.save_json("scan", key, {"frames": 1, "cuts": [], "errors": [], "samples": [[0, faces]]})
    size = shrunk(media.height, media.width, config.scan.side)
    last = start_s + seconds >= media.seconds
    seconds += 0.1 * last  # containers round their duration
    scanner = Scanner(root / source, start_s, seconds, size, config.scan.faces_every, config.scan.cut)
    factor = media.height / size[0]
    samples = [[number, (look.faces(frame) * factor).round(1).tolist()] for number, frame in scanner]
    assert scanner.result is not None
    errors = [plain(line, root / source) for line in scanner.result.errors]
    result = {"frames": scanner.result.frames, "cuts": scanner.result.cuts, "samples": samples}
    return work.save_json("scan", key, {**result, "errors": [len(errors), errors[0]] if errors else []})


def tracks_of(
    source: str, digest: str, media: Media, parts: list[tuple[float, Any]], config: PrepareConfig
) -> tuple[list[Track], list[dict[str, Any]]]:
    """The tracks of a file from the scans of its parts, and what of it is refused."""
    tracks: list[Track] = []
    refused: list[dict[str, Any]] = []
    photo = media.photo
    for start_s, found in parts:
        if not found["frames"]:
            said = f" ({found['errors'][1]})" if found["errors"] else ""
            refused.append(_refused(start_s, 0, f"no frame can be decoded{said}"))
            continue
        if found["errors"] and found["errors"][0] > config.track.most_errors * found["frames"]:
            count, first = found["errors"]
            refused.append(_refused(start_s, found["frames"], f"damaged: {count} decoding errors ({first})"))
            continue
        samples = [Faces(number, np.array(boxes, np.float32).reshape(-1, 4)) for number, boxes in found["samples"]]
        least = 1 if photo else config.crop.clip_frames[0]
        for stretch in find_tracks(samples, found["frames"], found["cuts"], least, config.track):
            begin, count = start_s + stretch.start / FPS, stretch.stop - stretch.start
            if stretch.reason:
                refused.append(_refused(begin, count, stretch.reason))
                continue
            faces = tuple(
                (s.frame - stretch.start, tuple(s.boxes[0].tolist()))
                for s in samples
                if stretch.start <= s.frame < stretch.stop and len(s.boxes)
            )
            tracks.append(Track(source, digest, media, len(tracks), round(begin, 3), count, faces))
    return tracks, refused


def track_key(track: Track, config: PrepareConfig, networks: Networks) -> str:
    """The name of all that `prepare_track` finds out."""
    settings: list[Any] = [config.detect, config.crop, config.filter, config.sound]
    return key_of("track", asdict(track), [asdict(part) for part in settings], asdict(networks))


def prepare_track(work: Work, root: Path, track: Track, config: PrepareConfig, networks: Networks) -> dict[str, Any]:
    """All stages of one track; the result says which clips there are and where their pieces lie."""
    key = track_key(track, config, networks)
    if (found := work.json("track", key)) is not None:
        return found
    finder()
    summary: dict[str, Any] = {"clips": [], "refused": []}

    def refuse(reason: str) -> Any:
        summary["refused"].append(_refused(track.start_s, track.frames, reason))
        return work.save_json("track", key, summary)

    # 1. Keypoints and the crop
    try:
        detect_key = detect(work, root, track, config)
        keypoints, _ = load_points(work, detect_key, track, config.detect.smooth)
        if not followed(keypoints, track):
            return refuse("the detector followed somebody else")
        crop = plan_crop(keypoints, config.crop)
    except ValueError as error:
        return refuse(_one_line(error, root / track.source))
    summary |= {"detect": detect_key, "crop": asdict(crop)}
    cropped = crop.applied(keypoints)

    # 2. Sound
    sound = hear(work, root, track, keypoints, config)
    summary["sound"] = sound
    if config.sound.need and sound["reason"]:
        return refuse(sound["reason"])
    if sound["key"] and not sound["reason"] and networks.audio:
        summary["states"] = states(work, track, sound, config, networks)

    # 3. Clips: those that keypoints speak for are rendered, and judged by their pixels
    least, most = (1, 1) if track.media.photo else config.crop.clip_frames
    ranges = cut_clips(len(cropped), least, most)
    verdicts = [judge_keypoints(cropped[a:b], crop, config.filter, config.crop.most_enlarged) for a, b in ranges]
    good = [part for part, verdict in zip(ranges, verdicts, strict=True) if not verdict.reasons]
    render_key = render(work, root, track, detect_key, crop, cropped, good, config) if good else ""
    summary["render"] = render_key
    for (start, stop), verdict in zip(ranges, verdicts, strict=True):
        measures, reasons = dict(verdict.measures), list(verdict.reasons)
        if not reasons:
            sharpness = np.load(clip_path(work, render_key, start, ".npz"))["sharpness"]
            measures["sharpness"] = float(np.median(sharpness[np.isfinite(sharpness)]))
            if measures["sharpness"] < config.filter.sharpness:
                reasons.append(f"blurred: sharpness {measures['sharpness']:.2f}, at least {config.filter.sharpness:g}")
        clip = {"start": start, "stop": stop, "measures": {n: round(v, 4) for n, v in measures.items()}}
        if reasons:
            summary["refused"].append(_refused(track.start_s + start / FPS, stop - start, "; ".join(reasons)))
            continue
        # 4. Latents
        if networks.vae:
            clip["latents"] = latents(work, render_key, start, crop.size, config, networks)
        summary["clips"].append(clip)
    return work.save_json("track", key, summary)


def _refused(start_s: float, frames: int, reason: str) -> dict[str, Any]:
    return {"start_s": round(start_s, 2), "seconds": round(frames / FPS, 2), "reason": reason}


def _one_line(error: Exception, path: Path) -> str:
    return " ".join(str(error).replace(f"{path}: ", "").replace(f"{path} ", "").split())
