"""The work folder of a preparation: results of stages under names that say what they were made from.

A name is a digest of the stage, its VERSION, its inputs' names and its settings. The same work is found again, other
settings have other names, and whatever is there is whole: files and folders appear by renaming.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

# Of each stage; raise one when the same settings give other results.
VERSIONS = {
    "file": 1, "scan": 1, "detect": 1, "sound": 1, "states": 1, "render": 1, "latents": 1, "track": 2, "shards": 2,
}  # fmt: skip


def key_of(stage: str, *parts: Any) -> str:
    """The name of a stage's result from plain values and settings (dataclasses)."""
    plain = [asdict(part) if is_dataclass(part) and not isinstance(part, type) else part for part in parts]
    text = json.dumps([stage, VERSIONS[stage], plain], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's content; a gigabyte a second."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


class Work:
    """Paths and safe writing in the work folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, stage: str, key: str, suffix: str = "") -> Path:
        """Where a result is or will be; two letters of the name divide large folders."""
        return self.folder / stage / key[:2] / f"{key}{suffix}"

    def json(self, stage: str, key: str) -> Any | None:
        """A result that is JSON, None if it was not made yet."""
        path = self.path(stage, key, ".json")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def save_json(self, stage: str, key: str, value: Any) -> Any:
        """Write a result that is JSON; returns it as it will be read."""
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        with self.writing(stage, key, ".json") as path:
            path.write_text(text, encoding="utf-8")
        return json.loads(text)

    @contextmanager
    def writing(self, stage: str, key: str, suffix: str = "") -> Iterator[Path]:
        """A path beside the result's, renamed to it when the block ends well. The block may make it a folder."""
        target = self.path(stage, key, suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            yield part
            try:
                os.replace(part, target)
            except OSError:  # another process made the same folder meanwhile: it holds the same
                if not target.is_dir():
                    raise
        finally:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what killed processes left."""
        for part in self.folder.glob("*/*/.*.part"):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)
