"""Time the phones of real recordings with a trained audio encoder, so that the next one learns from people too.

    python train/speech_labels.py out/audio_encoder/best OUT RECORDINGS... [--texts LIST]

RECORDINGS are files or folders. Where LIST, "name|text" or "name|text|text as spoken" a line as LJSpeech has it, tells
what is said, the phones are espeak-ng's and only their times are found (Viterbi over the network's posteriors).
Elsewhere the network's own reading is taken where it is sure; frames where it is not are marked "?", and training
leaves them out. OUT is a corpus as train/speech_corpus.py makes it, all of the split "train".

Letters: N samples at 16 kHz, F frames of 20 ms, C phones of PHONES, S phones said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.textgrid import Interval
from train.phones import PHONES, UNKNOWN_TEXT

Double = NDArray[np.float64]
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".mpg", ".mov")
SURE = 0.6  # ours: a frame below this share of the best phone is "?"
CHANGE = 2.0  # ours: what a change of phone costs, in log share; a phone of one frame is mostly an error
SHORTEST_PAUSE = 4  # frames: shorter silences within words are closures of stops
LONGEST_S = 35.0  # of a recording; the rest is left out. Attention grows with the square


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint of train/audio_encoder.py")
    parser.add_argument("out", help="folder of the corpus")
    parser.add_argument("recordings", nargs="+", help="sound files, or folders of them")
    parser.add_argument("--texts", help='what is said: "file name without ending|text" a line')
    parser.add_argument("--sure", type=float, default=SURE, help="share that a phone must have (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        made = label(arguments.model, Path(arguments.out), arguments.recordings, arguments.texts, arguments.sure)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(made)
    return 0


def label(model: str, out: Path, recordings: Sequence[str], texts: str | None, sure: float) -> str:
    """Write the corpus; returns a line that says what was made."""
    from train.speech_corpus import write_list, write_utterance
    from train.speech_voices import Espeak, Utterance

    network = load_recogniser(model)
    said = read_texts(texts) if texts else {}
    espeak = Espeak() if said else None
    rows: list[dict[str, object]] = []
    aligned = left_out = 0
    for number, path in enumerate(found_recordings(recordings)):
        try:
            sound = whole_recording(path)[: int(LONGEST_S * 16000)]
            logs = log_posteriors(network, sound)
            if espeak is not None and path.stem in said:
                names = [phone.text for phone in espeak.speak(said[path.stem], "en-us").phones if phone.text]
                phones = align(logs, names, len(sound) / 16000)
                aligned += 1
            else:
                phones = read_phones(logs, len(sound) / 16000, sure)
        except ValueError as error:
            print(f"left out {path}: {error}", file=sys.stderr)
            left_out += 1
            continue
        (out / "real").mkdir(parents=True, exist_ok=True)
        rows.append(write_utterance(out, f"real/{number:05d}", path.stem, "train", Utterance(sound, phones)))
    if not rows:
        raise ValueError(f"none of {', '.join(recordings)} could be labelled")
    write_list(out, rows, f"recordings labelled by {model}")
    known = np.mean([_known_share(out / f"{row['name']}.TextGrid") for row in rows])
    return (
        f"{out}: {len(rows)} recordings, {aligned} of them by their texts, {left_out} left out; "
        f"{known:.0%} of the time has a phone"
    )


def _known_share(path: Path) -> float:
    from pose.textgrid import read_textgrid

    phones = read_textgrid(path)["phones"]
    return 1.0 - sum(p.end - p.start for p in phones if p.text == UNKNOWN_TEXT) / phones[-1].end


def load_recogniser(folder: str) -> Any:
    """The network of a checkpoint with its phones, for inference; ValueError if it is not one of ours."""
    import torch
    from transformers import Wav2Vec2ForAudioFrameClassification

    try:
        network = Wav2Vec2ForAudioFrameClassification.from_pretrained(folder, dtype=torch.float32)
    except OSError as error:
        raise ValueError(f"no checkpoint of train/audio_encoder.py in {folder}") from error
    if tuple(network.config.id2label[i] for i in range(network.config.num_labels)) != PHONES:
        raise ValueError(f"{folder} does not name the phones of train/phones.py; train it anew")
    return network.eval()


def log_posteriors(network: Any, sound: NDArray[np.float32]) -> Double:
    """Log shares of the phones (F, C) in a recording (N,), normalised as avatar.models.audio_encoder does it."""
    import torch

    normal = torch.from_numpy((sound - sound.mean()) / np.sqrt(sound.var() + 1e-7))
    with torch.no_grad():
        return network(normal[None].float()).logits[0].log_softmax(-1).double().numpy()


def found_recordings(paths: Iterable[str]) -> list[Path]:
    """The sound files among files and folders, in order; ValueError where there is none."""
    found: list[Path] = []
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"no recordings in {path}; pass sound files or folders of them")
        found += files
    return found


def whole_recording(path: Path) -> NDArray[np.float32]:
    """A recording (N,) at 16 kHz."""
    from pose.speech import open_speech

    return np.concatenate(list(open_speech(path).chunks()))


def read_texts(path: str) -> dict[str, str]:
    """{name: text} of a list with bars; of three fields the last, which has numbers written out."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no list of texts that can be read: {error}") from None
    fields = [line.split("|") for line in lines if "|" in line]
    return {parts[0].strip(): parts[-1].strip() for parts in fields}


def best_path(logs: Double) -> NDArray[np.int64]:
    """The phone of each frame (F,) on the best path through log shares (F, C), where each change costs CHANGE."""
    score, back = logs[0], np.zeros(logs.shape, np.int64)
    for frame in range(1, len(logs)):
        leader = int(score.argmax())
        changes = score < score[leader] - CHANGE
        back[frame] = np.where(changes, leader, np.arange(len(score)))
        score = np.where(changes, score[leader] - CHANGE, score) + logs[frame]
    path = np.zeros(len(logs), np.int64)
    path[-1] = score.argmax()
    for frame in range(len(logs) - 1, 0, -1):
        path[frame - 1] = back[frame, path[frame]]
    return path


def read_phones(logs: Double, duration_s: float, sure: float = 0.0) -> tuple[Interval, ...]:
    """The phones of the best path through log shares (F, C); "?" where the share is below `sure`."""
    best = best_path(logs)
    share = np.exp(logs[np.arange(len(best)), best])
    texts = np.where(share < sure, UNKNOWN_TEXT, np.array(["", *PHONES[1:]])[best])
    return _intervals(texts.tolist(), duration_s)


def align(logs: Double, names: Sequence[str], duration_s: float) -> tuple[Interval, ...]:
    """When phones (S) that are known to follow each other are said, given the log shares (F, C) of the frames.

    Viterbi. States: a pause of at least SHORTEST_PAUSE frames before, between and after the phones, which may be left
    out; each phone lasts at least one frame.
    """
    count, frames = len(names), len(logs)
    if not count or frames < count:
        raise ValueError(f"{frames} frames cannot hold {count} phones; is it the right text?")
    # A row for each phone and for each step of the pause before it: 0..P-1 pause, P phone; a last pause follows.
    width = SHORTEST_PAUSE + 1
    places = np.array([PHONES.index(name) for name in names])
    states = np.concatenate([np.r_[np.zeros(SHORTEST_PAUSE, int), place] for place in places] + [[0]])
    total = len(states)
    phone_rows = np.arange(SHORTEST_PAUSE, total - 1, width)
    pauses_end = np.arange(SHORTEST_PAUSE - 1, total, width)
    score = np.full(total, -np.inf)
    score[0], score[SHORTEST_PAUSE], score[SHORTEST_PAUSE - 1] = 0.0, 0.0, 0.0  # the first pause may be short
    score += np.where(np.isfinite(score), logs[0, states], 0.0)
    stays = np.zeros(total, bool)
    stays[phone_rows] = stays[pauses_end[pauses_end < total]] = stays[-1] = True
    back = np.zeros((frames, total), np.int32)
    sources = np.full((3, total), -1)
    sources[0] = np.where(stays, np.arange(total), -1)
    sources[1, 1:] = np.arange(total - 1)  # the state before: next step of a pause, pause to phone, phone to pause
    sources[2, phone_rows[1:]] = phone_rows[:-1]  # phone to phone, without a pause
    for frame in range(1, frames):
        options = np.where(sources >= 0, score[sources], -np.inf)
        choice = options.argmax(0)
        back[frame] = sources[choice, np.arange(total)]
        score = options[choice, np.arange(total)] + logs[frame, states]
    row = total - 1 if score[total - 1] > score[phone_rows[-1]] else int(phone_rows[-1])
    if not np.isfinite(score[row]):
        raise ValueError("the text does not fit the recording")
    path = np.zeros(frames, int)
    for frame in range(frames - 1, -1, -1):
        path[frame] = row
        row = back[frame, row]
    # Equal phones that follow each other stay two intervals: the row tells them apart.
    texts = [PHONES[states[row]] if states[row] else "" for row in path]
    marks = [(row if text else -1, text) for row, text in zip(path.tolist(), texts, strict=True)]
    return _intervals(marks, duration_s)


def _intervals(marks: Sequence[Any], duration_s: float) -> tuple[Interval, ...]:
    """One interval for each run of equal marks; edges are halfway between the middles of frames."""
    from train.audio_encoder_data import frame_times

    middles = frame_times(len(marks))
    starts = [place for place in range(len(marks)) if place == 0 or marks[place] != marks[place - 1]]
    edges = [0.0, *(float(middles[place - 1 : place + 1].mean()) for place in starts[1:]), duration_s]
    texts = [marks[place][1] if isinstance(marks[place], tuple) else marks[place] for place in starts]
    return tuple(Interval(a, b, text) for a, b, text in zip(edges[:-1], edges[1:], texts, strict=True))


if __name__ == "__main__":
    sys.exit(main())
