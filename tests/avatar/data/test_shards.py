"""Shards: random access, streams without overlap, the same bytes for the same clips, nothing half written."""

import numpy as np
import pytest

from avatar.data.shards import ShardFolder, ShardWriter, stream_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_synthetic):
    """Eight clips in shards of one or two."""
    return write_synthetic(tmp_path_factory.mktemp("shards"), clips=8, max_bytes=40_000)


def test_random_access(folder, synthetic_clip):
    shards = ShardFolder(folder)
    assert len(shards) == 8 and len({row.shard for row in shards.rows}) >= 4
    for number in (7, 0, 4):
        expected = synthetic_clip(number, split="val" if number % 4 == 3 else "train")
        index = next(i for i, row in enumerate(shards.rows) if row.key == expected.key)
        assert shards.clip(index).files() == expected.files()
        assert shards.rows[index].meta == expected.meta and shards.rows[index].shard.startswith(expected.split)
    assert [shards.rows[i].key for i in shards.select("val")] == ["synthetic0003", "synthetic0007"]
    assert shards.select(least_frames=26) == [] and shards.select(sound=False) == []
    assert shards.by_size() == {(64, 64): list(range(8))}


def test_same_clips_same_bytes(folder, tmp_path, write_synthetic):
    again = write_synthetic(tmp_path / "again", clips=8, max_bytes=40_000)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_streams_share_out_the_shards(folder, monkeypatch):
    import torch

    urls = str(folder / "train-{000000..000003}.tar")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        loader = torch.utils.data.DataLoader(stream_clips(urls), batch_size=None, num_workers=2)
        found.append([clip.key for clip in loader])
    assert all(found) and not set(found[0]) & set(found[1])
    whole = [clip.key for clip in one_reader(monkeypatch, urls)]
    assert sorted(found[0] + found[1]) == sorted(whole) and len(whole) == len(set(whole))
    orders = [[clip.key for clip in one_reader(monkeypatch, urls, seed=1, epoch=e, shuffle=3)] for e in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == sorted(whole)


def one_reader(monkeypatch, urls, **options):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    return list(stream_clips(urls, **options))


def test_failure_leaves_nothing_half_written(tmp_path, synthetic_clip):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path) as writer:
        writer.write(synthetic_clip())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_wrong_folders_are_refused_in_one_line(tmp_path, write_synthetic):
    with pytest.raises(ValueError, match="manifest.parquet does not exist; make it"):
        ShardFolder(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="not a manifest"):
        ShardFolder(tmp_path)
    folder = write_synthetic(tmp_path / "cut", clips=1)
    tar = folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut short"):
        ShardFolder(folder)
    with pytest.raises(ValueError, match="no shards"):
        stream_clips([])


def test_extra_fields_of_meta_reach_the_manifest(tmp_path, synthetic_clip):
    import dataclasses

    clip = synthetic_clip()
    with ShardWriter(tmp_path) as writer:
        writer.write(dataclasses.replace(clip, meta={**clip.meta, "measures": {"blur": 1.5}}))
    shards = ShardFolder(tmp_path)
    assert shards.rows[0].meta["measures"] == {"blur": 1.5} and np.isfinite(shards.rows[0].start_s)
