"""Clips of a dataset as arrays on the motion clock, made once and kept on disk.

A clip gives two files in the cache folder: raw pose vectors (F, P) and what the model hears, rows (F, A) of a feature
set or samples (N,). Their name is a digest of the recording's files, of the settings and of VERSION: other content or
other settings are other files, and nothing is ever read back stale. Files are opened memory-mapped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.shipped import located
from pose.datasets.check import Dataset
from pose.datasets.clip import Clip, Recording
from pose.datasets.ted import Ted
from pose.feature_sets import FEATURE_SETS, feature_rows, feature_width, silence
from pose.phone_reader import PhoneReader
from pose.representations.directions import DirectionVectors
from pose.representations.vectors import MotionVectors
from pose.speech import SpeechFeatures, speech_features
from pose.speech_models import SpeechModel
from pose.textgrid import Interval

Array = NDArray[np.float32]

VERSION = 1  # of the features; raise it when the same settings give other numbers
WORD_WIDTH = 300
MANY = 32  # new recordings from which other processes are worth the seconds that they take to start


@dataclass(frozen=True)
class ClipArrays:
    """`vectors` (F, P) raw; `speech` (S + F, A), S silent rows in front, or (N,) samples; both memory-mapped."""

    name: str
    speaker: str
    style: str
    split: str
    vectors: Array
    speech: Array
    waveform_rate: bool
    recording: Recording

    def __len__(self) -> int:
        return len(self.vectors)


class WordVectors:
    """Vectors of words from a text file as fastText and GloVe write them: a word and 300 numbers a line.

    Opening reads the file once for where each word stands (fastText's two million: about 15 s); unknown words are
    zeros. `None` gives zeros for all.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._places: dict[bytes, int] = {}
        self._path, self._read = path, dict[bytes, Array]()
        if path is None:
            return
        with open(path, "rb") as file:
            place = 0
            for line in file:
                self._places.setdefault(line.split(b" ", 1)[0].lower(), place)
                place += len(line)

    def vector(self, word: str) -> Array:
        """(300,)."""
        key = word.lower().encode()
        if key not in self._read:
            vector = np.zeros(WORD_WIDTH, np.float32)
            if key in self._places:
                assert self._path is not None
                with open(self._path, "rb") as file:
                    file.seek(self._places[key])
                    vector = np.array(file.readline().split()[1:], np.float32)
                if len(vector) != WORD_WIDTH:
                    raise ValueError(f"{self._path}: {word!r} has {len(vector)} numbers, expected {WORD_WIDTH}")
            self._read[key] = vector
        return self._read[key]

    def block(self, words: Sequence[Interval], frames: int, fps: float) -> Array:
        """(F, 301): the vector of the word in each frame, then 1 where there is none."""
        rows = np.zeros((frames, WORD_WIDTH + 1), np.float32)
        rows[:, -1] = 1
        for start, end, text in words:
            inside = slice(max(0, round(start * fps)), max(0, round(end * fps)))
            rows[inside, -1] = 0
            rows[inside, :-1] = self.vector(text)
        return rows


class FeatureCache:
    """Arrays of the clips of one dataset, in one representation and one feature set (None: the samples)."""

    def __init__(
        self,
        folder: str | Path,
        representation: MotionVectors,
        feature_set: str | None,
        seed_frames: int,
        speech_model: str | None = None,
        word_vectors: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.representation, self.feature_set, self.seed_frames = representation, feature_set, seed_frames
        if feature_set is not None:
            feature_width(feature_set)  # an unknown one is refused here
        blocks = () if feature_set is None else FEATURE_SETS[feature_set]
        if "phones" in blocks and speech_model is None:
            speech_model = located("shipped:audio")
        needs_model = "wavlm" in blocks or "phones" in blocks
        if needs_model and speech_model is None:
            raise ValueError(
                f"the feature set {feature_set!r} needs a speech network; give speech_model=FOLDER or a hub id such "
                "as microsoft/wavlm-large, or take feature_set=acoustic"
            )
        self._speech_source = speech_model if needs_model else None
        # Now, so that a network that is not there stops the run once and not every clip.
        network = PhoneReader if "phones" in blocks else SpeechModel
        self._speech_model = None if self._speech_source is None else network(self._speech_source)
        self._word_path = word_vectors
        self._words: WordVectors | None = None
        self._settings = {
            "version": VERSION,
            "representation": [type(representation).__name__, _plain_config(representation)],
            "feature_set": feature_set,
            "seed_frames": seed_frames,
            "speech_model": self._speech_source,
            "word_vectors": word_vectors,
        }

    def load(self, dataset: Dataset, recording: Recording) -> ClipArrays:
        """The arrays of a recording, from the cache or made now; ValueError when it is unusable."""
        paths = self._paths(recording)
        if not all(path.is_file() for path in paths.values()):
            clip = dataset.load(recording, self.representation.config.fps)
            for name, values in (("vectors", self._vectors(clip)), ("speech", self._speech(clip))):
                part = paths[name].with_suffix(f".{os.getpid()}.part")
                with open(part, "wb") as file:
                    np.save(file, values.astype(np.float32))
                part.replace(paths[name])
        vectors, speech = (np.load(paths[name], mmap_mode="r") for name in ("vectors", "speech"))
        return ClipArrays(
            recording.name, recording.speaker, recording.style, recording.split, vectors, speech,
            self.feature_set is None, recording,
        )  # fmt: skip

    def load_all(
        self,
        dataset: Dataset,
        recordings: Sequence[Recording],
        progress: Callable[[str], None] | None = None,
        processes: int = 1,
    ) -> tuple[list[ClipArrays], list[tuple[str, str]]]:
        """The clips that are usable, and (name, why) of the others. `processes` make those that are not there yet.

        A speech network keeps to this process: it takes all cores by itself, or a device that is there once.
        """
        new = [recording for recording in recordings if not self._is_kept(recording)] if processes > 1 else []
        if len(new) >= MANY and self._speech_model is None and not isinstance(dataset, Ted):  # whose file is open here
            # Spawned, because forking a process with compiled and threaded libraries can hang.
            with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (self, dataset)) as pool:
                for name in pool.map(_make, new, chunksize=4):
                    if progress is not None:
                        progress(name)
            progress = None
        clips, unusable = [], []
        for recording in recordings:
            if progress is not None:
                progress(recording.name)
            try:
                clips.append(self.load(dataset, recording))
            except (ValueError, OSError) as error:
                unusable.append((recording.name, str(error)))
        return clips, unusable

    def hears(self, clip: Clip) -> SpeechFeatures:
        """What a model of this feature set hears of a clip: for the pipeline, which makes its own rows of it."""
        features = speech_features(clip.waveform, clip.fps)
        if self._speech_model is not None:
            features = SpeechFeatures.join(list(self._speech_model.stream([features])))
        return features if self.feature_set is None else self._with_words(features, clip)

    def _paths(self, recording: Recording) -> dict[str, Path]:
        key = self._key(recording)
        return {name: self.folder / f"{key}.{name}.npy" for name in ("vectors", "speech")}

    def _is_kept(self, recording: Recording) -> bool:
        try:
            return all(path.is_file() for path in self._paths(recording).values())
        except OSError:
            return False

    def _vectors(self, clip: Clip) -> NDArray:
        if clip.motion is not None:
            return self.representation.raw(clip.motion)
        assert clip.directions is not None
        bones = clip.directions.shape[1]
        if not isinstance(self.representation, DirectionVectors) or self.representation.dim != 3 * bones:
            raise ValueError(
                f"{clip.name} holds the directions of {bones} bones and no rotations; take the representation "
                f"directions with hands={'true' if bones == 42 else 'false'}"
            )
        return clip.directions.reshape(len(clip), -1)

    def _speech(self, clip: Clip) -> Array:
        if self.feature_set is None:
            return clip.waveform
        features = self.hears(clip)
        quiet = silence(features, max(self.seed_frames, 1))
        rows = feature_rows(features, self.feature_set, quiet)[: len(clip)]
        if len(rows) < len(clip):
            raise ValueError(f"{clip.name}: {len(rows)} frames of speech for {len(clip)} of motion")
        return np.concatenate([feature_rows(quiet, self.feature_set)[: self.seed_frames], rows])

    def _with_words(self, features: SpeechFeatures, clip: Clip) -> SpeechFeatures:
        assert self.feature_set is not None
        if "words" not in FEATURE_SETS[self.feature_set] or clip.words is None:
            return features
        if self._words is None:
            self._words = WordVectors(self._word_path)
        block = self._words.block(clip.words, len(features), clip.fps)
        return replace(features, blocks={**features.blocks, "words": block})

    def _key(self, recording: Recording) -> str:
        digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True, default=str).encode())
        digest.update(f"{recording.name}/{recording.part}".encode())
        for kind, path in sorted(recording.files.items()):
            digest.update(kind.encode())
            if recording.part:  # one of many in a large file
                status = path.stat()
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            else:
                with open(path, "rb") as file:
                    while chunk := file.read(1 << 22):
                        digest.update(chunk)
        return digest.hexdigest()[:32]


_worker: tuple[FeatureCache, Dataset]  # in the processes of `load_all`


def _begin(cache: FeatureCache, dataset: Dataset) -> None:
    import torch

    global _worker
    torch.set_num_threads(1)
    _worker = cache, dataset


def _make(recording: Recording) -> str:
    cache, dataset = _worker
    with suppress(ValueError, OSError):  # said when the parent loads it
        cache.load(dataset, recording)
    return recording.name


def _plain_config(representation: MotionVectors) -> Mapping[str, object]:
    return {key: value for key, value in representation.config.items() if not key.startswith("_")}
