"""Measure an audio encoder: how well it names phones, and how much of the mouth's shape its states hold.

    python train/audio_encoder_report.py CHECKPOINT --synthetic SPEECH --aligned FOLDER --spoken LIST --save FOLDER

Held-out voices of a synthetic corpus, real speech with Praat TextGrids (a tier named phone or phones, in ARPAbet or
IPA; the sound has the same name) and real speech of which only the words are known (LIST: "sound file|text" a line).

| figure        | is                                                                                               |
|---------------|--------------------------------------------------------------------------------------------------|
| frame error   | share of 20 ms frames with another phone than the label                                          |
| phone error   | insertions, deletions and substitutions over phones said, without silence (edit distance)        |
| viseme error  | share of frames of another MPEG-4 viseme                                                         |
| probe         | viseme accuracy of a linear classifier on frozen states of a 200 ms window, as the projection    |
|               | to audio tokens sees it; trained on some speakers, tested on others; log-mel by the same encoder |

Letters: N samples at 16 kHz, F frames, D numbers a frame, K visemes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pose.textgrid import Interval, read_textgrid
from train.phones import PHONES, UNKNOWN, VISEME_OF, VISEMES, labels_at, unified
from train.speech_labels import SUFFIXES, load_recogniser, log_posteriors, read_phones, whole_recording

if TYPE_CHECKING:
    from torch import Tensor, nn

    from avatar.models.audio_encoder import AudioEncoder
    from train.audio_encoder_data import Labelled

PROBE_FRAMES = 20000  # of the synthetic voices that the probe is trained on
PENALTIES = (1e-4, 1e-3, 1e-2)  # of the probe's weights; the best on a tenth of the training frames is taken
Sample = tuple[str, NDArray[np.float32], tuple[Interval, ...]]  # name, sound (N,), phones


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint of train/audio_encoder.py")
    parser.add_argument("--synthetic", help="corpus of train/speech_corpus.py: its held-out voices")
    parser.add_argument("--aligned", nargs="+", default=[], help="folders or TextGrids of real speech with phones")
    parser.add_argument("--spoken", help="list of real recordings and what they say")
    parser.add_argument("--no-probe", action="store_true", help="leave out the viseme probe")
    parser.add_argument("--save", help="write the network in half precision to this folder, to ship")
    arguments = parser.parse_args(argv)
    try:
        from train.audio_encoder_data import read_corpus

        network = load_recogniser(arguments.model)
        aligned = [sample for path in arguments.aligned for sample in read_aligned(Path(path))]
        held_out = read_corpus(arguments.synthetic) if arguments.synthetic else []
        rows = []
        if held_out:
            rows.append(phone_errors(network, "held-out synthetic voices", _samples(held_out, "val")))
        if aligned:
            rows.append(phone_errors(network, "real, aligned", aligned))
        if arguments.spoken:
            rows.append(phone_errors(network, "real, by text", read_spoken(arguments.spoken)))
        for row in rows:
            print(json.dumps(row))
        if held_out and aligned and not arguments.no_probe:
            for row in probe_table(arguments.model, _samples(held_out, "train"), aligned):
                print(json.dumps(row))
        if arguments.save:
            print(save_small(network, Path(arguments.save)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read_aligned(path: Path) -> list[Sample]:
    """Real recordings with phones: every TextGrid under a folder with such a tier and a sound beside or near it."""
    grids = [path] if path.is_file() else sorted(path.rglob("*.TextGrid"))
    root = path.parent if path.is_file() else path
    sounds = {file.stem: file for file in sorted(root.rglob("*")) if file.suffix.lower() in SUFFIXES}
    found = []
    for grid in grids:
        tiers = read_textgrid(grid)
        tier = next((tiers[name] for name in ("phones", "phone") if name in tiers), None)
        sound = sounds.get(grid.stem, sounds.get(grid.stem.removesuffix("_phones")))
        if tier is not None and sound is not None:
            found.append((grid.stem, whole_recording(sound), unified(tier)))
    if not found:
        raise ValueError(f"{path} holds no TextGrid with a tier named phones beside its sound")
    return found


def read_spoken(path: str) -> list[Sample]:
    """Real recordings and espeak-ng's phones of what they say; their times mean nothing."""
    from train.speech_labels import read_texts
    from train.speech_voices import Espeak

    espeak = Espeak()
    return [
        (Path(name).stem, whole_recording(Path(path).parent / name), espeak.speak(text, "en-us").phones)
        for name, text in read_texts(path).items()
    ]


def _samples(utterances: Sequence[Labelled], split: str) -> list[Sample]:
    return [(u.path.stem, u.sound(0.0, u.duration_s), u.phones) for u in utterances if u.split == split]


def phone_errors(network: Any, name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """Errors over samples; frame and viseme errors only where the labels have times that fit the sound."""
    from train.audio_encoder_data import frame_times

    wrong = wrong_viseme = frames = edits = said = 0
    for _, sound, phones in samples:
        logs = log_posteriors(network, sound)
        best = logs.argmax(1)
        labels = labels_at(phones, frame_times(len(best)))
        known = labels != UNKNOWN
        frames += int(known.sum())
        wrong += int((best != labels)[known].sum())
        wrong_viseme += int((VISEME_OF[best] != VISEME_OF[np.where(known, labels, 0)])[known].sum())
        true = [phone.text for phone in phones if phone.text in PHONES]
        read = [phone.text for phone in read_phones(logs, len(sound) / 16000) if phone.text]
        edits += edit_distance(true, read)
        said += len(true)
    row = {"set": name, "recordings": len(samples), "phones": said, "phone_error": round(edits / said, 4)}
    if "text" not in name:
        row |= {"frame_error": round(wrong / frames, 4), "viseme_error": round(wrong_viseme / frames, 4)}
    return row


def edit_distance(true: Sequence[str], read: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions from one to the other (Levenshtein)."""
    row = np.arange(len(read) + 1)
    for number, phone in enumerate(true, 1):
        options = np.minimum(row[1:] + 1, row[:-1] + np.array([phone != other for other in read], int))
        best = np.r_[number, options] - np.arange(len(read) + 1)
        row = np.minimum.accumulate(best) + np.arange(len(read) + 1)
    return int(row[-1])


def probe_table(model: str, synthetic: Sequence[Sample], real: Sequence[Sample]) -> list[dict[str, Any]]:
    """Viseme accuracy on real frames of probes on log-mel, on each layer and on all of them, in two trainings."""
    from avatar.models.audio_encoder import AudioEncoder

    depth = len(AudioEncoder.from_speech_model(model).layers)
    sources = {"log-mel": AudioEncoder()}
    for layers in [(layer,) for layer in range(1, depth + 1)] + [tuple(range(1, depth + 1))]:
        sources["layer " + "+".join(map(str, layers))] = AudioEncoder.from_speech_model(model, layers=layers)
    speakers = sorted({_speaker(name) for name, _, _ in real})
    most = max(speakers, key=lambda s: sum(len(x) for n, x, _ in real if _speaker(n) == s))
    rows = []
    for name, encoder in sources.items():
        learned = frames_of(encoder, synthetic, PROBE_FRAMES)
        tested = {speaker: frames_of(encoder, [r for r in real if _speaker(r[0]) == speaker]) for speaker in speakers}
        everyone = _joined(list(tested.values()))
        others = _joined([frames for speaker, frames in tested.items() if speaker != most])
        rows.append({
            "states": name, "width": learned[0].shape[1],
            "synthetic_to_real": round(probe(learned, everyone), 4), "frames": len(everyone[1]),
            f"{most}_to_other_people": round(probe(tested[most], others), 4), "other_frames": len(others[1]),
        })  # fmt: skip
    return rows


def _speaker(name: str) -> str:
    """Who speaks a recording: the first word of its name; MFA's corpora are one man, Michael."""
    first = name.replace("-", "_").split("_")[0]
    return "michael" if first in ("acoustic", "cold", "mfa", "michael") else first


def frames_of(encoder: AudioEncoder, samples: Sequence[Sample], most: int | None = None) -> tuple[Tensor, Tensor]:
    """Windowed states (F, D) of video frames and their visemes (F,); `most` picks evenly among the samples."""
    import torch

    from avatar.models.audio_encoder import window_frames

    states, labels = [], []
    per_sample = most // len(samples) + 1 if most else None
    for number, (_, sound, phones) in enumerate(samples):
        windows = window_frames(encoder.states(sound), encoder.config.window).flatten(1)
        times = (np.arange(len(windows)) + 0.5) / encoder.config.fps
        phone = labels_at(phones, times)
        kept = np.flatnonzero((phone != UNKNOWN) & (times < phones[-1].end))
        if per_sample:
            kept = np.random.default_rng(number).permutation(kept)[:per_sample]
        states.append(windows[torch.from_numpy(kept)])
        labels.append(torch.from_numpy(VISEME_OF[phone[kept]]))
    return torch.cat(states), torch.cat(labels)


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    import torch

    return torch.cat([states for states, _ in parts]), torch.cat([labels for _, labels in parts])


def probe(learned: tuple[Tensor, Tensor], tested: tuple[Tensor, Tensor]) -> float:
    """Accuracy on `tested` of a multinomial logistic regression on standardised states, fitted by L-BFGS."""
    import torch

    states, labels = learned
    mean, deviation = states.mean(0), states.std(0) + 1e-4
    states = (states - mean) / deviation
    kept_back = torch.arange(len(labels)) % 10 == 0
    scores = []
    for penalty in PENALTIES:
        weights = _fitted(states[~kept_back], labels[~kept_back], penalty)
        scores.append(_accuracy(weights, states[kept_back], labels[kept_back]))
    weights = _fitted(states, labels, PENALTIES[int(np.argmax(scores))])
    return _accuracy(weights, (tested[0] - mean) / deviation, tested[1])


def _fitted(states: Tensor, labels: Tensor, penalty: float) -> nn.Linear:
    import torch
    from torch import nn

    linear = nn.Linear(states.shape[1], len(VISEMES))
    nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(linear(states), labels) + penalty * linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return linear


def _accuracy(linear: nn.Linear, states: Tensor, labels: Tensor) -> float:
    return float((linear(states).argmax(1) == labels).float().mean())


def save_small(network: Any, folder: Path) -> str:
    """Write the network in half precision; returns a line with its size."""
    network.half().save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{folder}: {size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
