"""Folders of tar shards with a manifest: written in order, read at random or as a stream.

    FOLDER/train-000000.tar …, val-000000.tar …   WebDataset samples, see avatar/data/clips.py
    FOLDER/manifest.parquet                       one row a clip: where it is and what it is

The same clips in the same order give the same bytes. Random access needs a folder; a stream needs only addresses of
tar files, as WebDataset takes them ("https://host/train-{000000..000127}.tar", "pipe:aws s3 cp s3://… -").
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from avatar.data.clips import Clip

MANIFEST = "manifest.parquet"
MAX_BYTES = 512 << 20  # of a shard; ours: minutes of download, and enough of them to share out among workers
COLUMNS = ("key", "split", "source", "track", "start_s", "frames", "height", "width", "sound")


@dataclass(frozen=True)
class Row:
    """One clip of a manifest. `offset` and `size`: the sample's bytes inside its shard."""

    key: str
    split: str
    source: str
    track: int
    start_s: float
    frames: int
    height: int
    width: int
    sound: bool
    latents: bool
    audio: bool
    shard: str
    offset: int
    size: int
    meta: dict[str, Any]


def write_clip(tar: tarfile.TarFile, clip: Clip) -> tuple[int, int]:
    """Append a clip as one sample; returns its offset and size in the tar. Nothing but content decides the bytes."""
    return write_files(tar, clip.key, clip.files())


def write_files(tar: tarfile.TarFile, key: str, files: Mapping[str, bytes]) -> tuple[int, int]:
    """`write_clip` for a clip that is encoded already."""
    start = tar.offset
    for extension in sorted(files):
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size, info.mode = len(files[extension]), 0o644
        tar.addfile(info, io.BytesIO(files[extension]))
    return start, tar.offset - start


class ShardWriter:
    """Writes clips into shards of bounded size, one series for each split, and the manifest at the end.

    A context manager. Shards appear under their names when they are whole; the manifest is the last to appear.
    """

    def __init__(self, folder: str | Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, Any]] = []
        self._open: dict[str, tarfile.TarFile] = {}
        self._number: dict[str, int] = {}

    def write(self, clip: Clip) -> None:
        """Append a clip to the shards of its split."""
        self.write_files(clip.files(), clip.meta, clip.latents is not None, clip.audio_states is not None)

    def write_files(self, files: Mapping[str, bytes], meta: Mapping[str, Any], latents: bool, audio: bool) -> None:
        """`write` for a clip that is encoded already."""
        split = str(meta["split"])
        if split in self._open and self._open[split].offset >= self.max_bytes:
            self._close(split)
        if split not in self._open:
            self._number[split] = self._number.get(split, -1) + 1
            self._open[split] = tarfile.open(self._path(split, part=True), "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        offset, size = write_files(self._open[split], str(meta["key"]), files)
        place = {"shard": self._path(split).name, "offset": offset, "size": size}
        kinds = {"latents": latents, "audio": audio}
        self.rows.append(
            {
                **{name: meta[name] for name in COLUMNS},
                **kinds,
                **place,
                "meta": json.dumps(dict(meta), sort_keys=True),
            }
        )

    def _path(self, split: str, part: bool = False) -> Path:
        name = f"{split}-{self._number[split]:06d}.tar"
        return self.folder / (f".{name}.part" if part else name)

    def _close(self, split: str) -> None:
        self._open.pop(split).close()
        os.replace(self._path(split, part=True), self._path(split))

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for split, tar in self._open.items():
                tar.close()
                self._path(split, part=True).unlink(missing_ok=True)
            return
        for split in list(self._open):
            self._close(split)
        write_manifest(self.folder, self.rows)


def write_manifest(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as FOLDER/manifest.parquet, at once or not at all."""
    import pyarrow
    import pyarrow.parquet

    text, whole, truth = pyarrow.string(), pyarrow.int64(), pyarrow.bool_()
    kinds = {"start_s": pyarrow.float64(), "sound": truth, "latents": truth, "audio": truth}
    kinds |= dict.fromkeys(("key", "split", "source", "shard", "meta"), text)
    schema = pyarrow.schema([(name, kinds.get(name, whole)) for name in Row.__dataclass_fields__])
    part = folder / f".{MANIFEST}.part"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema), part)
    os.replace(part, folder / MANIFEST)


class ShardFolder:
    """Random access to the clips of a folder. Opens files as needed, so that it can be sent to worker processes."""

    def __init__(self, folder: str | Path) -> None:
        """ValueError when there is no manifest or a shard is missing or shorter than it says."""
        import pyarrow
        import pyarrow.parquet

        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise ValueError(f"{path} does not exist; make it with train/prepare.py RAW_DIR {self.folder}")
        try:
            found = pyarrow.parquet.read_table(path).to_pylist()
            self.rows = [Row(**{**row, "meta": json.loads(row["meta"])}) for row in found]
        except (pyarrow.ArrowException, TypeError, KeyError, ValueError) as error:
            problem = " ".join(str(error).split())
            raise ValueError(
                f"{path} is not a manifest of prepared clips ({problem}); prepare the data again"
            ) from None
        ends: dict[str, int] = {}
        for row in self.rows:
            ends[row.shard] = max(ends.get(row.shard, 0), row.offset + row.size)
        for shard, end in ends.items():
            file = self.folder / shard
            if not file.is_file() or file.stat().st_size < end:
                raise ValueError(f"{file} is missing or cut short; run train/prepare.py again")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Clip]:
        return (self.clip(index) for index in range(len(self)))

    def clip(self, index: int) -> Clip:
        """Clip number `index` of the manifest."""
        row = self.rows[index]
        with open(self.folder / row.shard, "rb") as file:
            file.seek(row.offset)
            data = file.read(row.size)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {}
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                files[member.name.partition(".")[2]] = content.read()
        return Clip.from_files(files)

    def select(self, split: str | None = None, least_frames: int = 1, sound: bool | None = None) -> list[int]:
        """Numbers of the clips of a split, with at least so many frames, with or without sound."""
        return [
            number
            for number, row in enumerate(self.rows)
            if (split is None or row.split == split)
            and row.frames >= least_frames
            and (sound is None or row.sound == sound)
        ]

    def by_size(self, numbers: Iterable[int] | None = None) -> dict[tuple[int, int], list[int]]:
        """(height, width) to the numbers of its clips: a batch has one size."""
        sizes: dict[tuple[int, int], list[int]] = {}
        for number in range(len(self)) if numbers is None else numbers:
            sizes.setdefault((self.rows[number].height, self.rows[number].width), []).append(number)
        return dict(sorted(sizes.items()))


def stream_clips(urls: str | Sequence[str], seed: int | None = None, epoch: int = 0, shuffle: int = 0) -> Any:
    """Clips of tar files as a torch IterableDataset, for data that does not lie on this machine's disk.

    `urls`: paths, addresses or brace patterns. Processes (RANK and WORLD_SIZE, or torch.distributed) and loader
    workers read different shards and together read all, once; have at least as many shards as readers. With `seed` the
    shards come in an order that (seed, epoch) decides, and `shuffle` clips at a time are mixed.
    """
    import random

    import webdataset

    patterns = [urls] if isinstance(urls, str) else urls
    shards = [str(shard) for pattern in patterns for shard in webdataset.shardlists.expand_urls(pattern)]
    if not shards:
        raise ValueError(f"no shards in {urls!r}")
    if seed is not None:
        shards = [shards[k] for k in np.random.default_rng([seed, epoch]).permutation(len(shards))]
    stream = webdataset.WebDataset(
        shards, shardshuffle=False, nodesplitter=webdataset.split_by_node, empty_check=False
    ).map(_sample_to_clip)
    return stream if seed is None or not shuffle else stream.shuffle(shuffle, rng=random.Random(f"{seed} {epoch}"))


def _sample_to_clip(sample: Mapping[str, Any]) -> Clip:
    return Clip.from_files({name: data for name, data in sample.items() if not name.startswith("__")})
