"""Convert the published TED LMDBs from pyarrow.serialize to plain .npz values, once.

pyarrow 10 was the last with `deserialize`, so this runs in an environment of its own, and imports nothing else
of this project (Python 3.7 to 3.11; tried on records of its own with pyarrow 10, not on the published 16 GB):

    python -m venv ted && ted/bin/pip install "pyarrow<11" "numpy<2" lmdb
    ted/bin/python pose/datasets/ted_convert.py ted_dataset/lmdb_train converted/lmdb_train

pyarrow's format can carry pickled objects, so convert only files from a source that you trust.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np


def encode_video(video: dict) -> bytes:
    """A video as the bytes of an .npz: arrays as they are, everything else as JSON."""
    arrays, clips = {}, []
    for number, clip in enumerate(video["clips"]):
        arrays[f"skeletons_3d/{number}"] = np.asarray(clip["skeletons_3d"], np.float32)
        arrays[f"audio_raw/{number}"] = np.asarray(clip["audio_raw"]).astype(np.float32)
        words = [[str(word), float(start), float(end)] for word, start, end in clip["words"]]
        clips.append({"words": words, "start_time": float(clip["start_time"]), "end_time": float(clip["end_time"])})
    text = json.dumps({"vid": str(video["vid"]), "clips": clips})
    arrays["json"] = np.frombuffer(text.encode("utf-8"), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def main(source: str, target: str) -> int:
    import lmdb
    import pyarrow

    Path(target).mkdir(parents=True, exist_ok=True)
    inside = lmdb.open(str(source), readonly=True, lock=False)
    outside = lmdb.open(str(target), map_size=1 << 40)
    failed = 0
    with inside.begin() as read, outside.begin(write=True) as write:
        for key, value in read.cursor():
            try:
                write.put(bytes(key), encode_video(pyarrow.deserialize(bytes(value))))
            except Exception as error:  # whatever a broken record raises: name it and go on
                failed += 1
                print(f"{bytes(key).decode('ascii', 'replace')}: {type(error).__name__}: {error}")
    print(f"{inside.stat()['entries'] - failed} videos, {failed} could not be read")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: ted_convert.py SOURCE_LMDB TARGET_LMDB")
    sys.exit(main(sys.argv[1], sys.argv[2]))
