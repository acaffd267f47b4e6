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
|               | to audio tokens sees it; trained on other speakers; log-mel by the same encoder                 |

Letters: N samples at 16 kHz, F frames, D numbers a frame, K visemes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
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

PROBE_FRAMES, PROBE_UTTERANCES = 5000, 100  # of the synthetic voices, and of people, that the probe is trained on
HELD_OUT_UTTERANCES = 200
PENALTY = 1e-2  # of the probe's weights
Sample = tuple[str, NDArray[np.float32], tuple[Interval, ...]]  # name, sound (N,), phones


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint of train/audio_encoder.py")
    parser.add_argument("--synthetic", help="corpus of train/speech_corpus.py: its held-out voices")
    parser.add_argument("--aligned", nargs="+", default=[], help="folders or TextGrids of real speech with phones")
    parser.add_argument("--spoken", help="list of real recordings and what they say")
    parser.add_argument("--people", help="corpus of train/speech_labels.py: people that the probe is trained on")
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
            rows.append(
                phone_errors(network, "held-out synthetic voices", _samples(held_out, "val", HELD_OUT_UTTERANCES))
            )
        if aligned:
            rows.append(phone_errors(network, "real, aligned", aligned))
        if arguments.spoken:
            rows.append(phone_errors(network, "real, by text", read_spoken(arguments.spoken)))
        for row in rows:
            print(json.dumps(row))
        if held_out and aligned and not arguments.no_probe:
            people = read_corpus(arguments.people) if arguments.people else []
            train_on = [_samples(corpus, "train", PROBE_UTTERANCES) for corpus in (held_out, people)]
            for row in probe_table(arguments.model, train_on[0], train_on[1], aligned):
                print(json.dumps(row), flush=True)
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


def _samples(utterances: Sequence[Labelled], split: str, most: int) -> list[Sample]:
    """At most so many utterances of a split, evenly out of all."""
    chosen = [u for u in utterances if u.split == split]
    chosen = chosen[:: max(1, len(chosen) // most)][:most]
    return [(u.path.stem, u.sound(0.0, u.duration_s), u.phones) for u in chosen]


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


def probe_table(
    model: str, synthetic: Sequence[Sample], people: Sequence[Sample], real: Sequence[Sample]
) -> Iterator[dict[str, Any]]:
    """Viseme accuracy on real recordings of probes on log-mel, on each layer and on all layers; a row each, a column
    for each training: synthetic voices, and these with other people.
    """
    from avatar.models.audio_encoder import AudioEncoder

    for encoder in (AudioEncoder(), AudioEncoder.from_speech_model(model)):
        learned = [frames_of(encoder, samples, PROBE_FRAMES) for samples in (synthetic, people) if samples]
        tested = frames_of(encoder, real)
        layers = range(len(encoder.layers))
        choices = {f"layer {layer + 1}": slice(layer, layer + 1) for layer in layers} if encoder.layers else {}
        for name, states in (choices | {"all layers" if choices else "log-mel": slice(None)}).items():

            def chosen(frames: Sequence[tuple[Tensor, Tensor]], states: slice = states) -> tuple[Tensor, Tensor]:
                all_states, labels = _joined(frames)
                return all_states[:, :, states].flatten(1), labels

            row = {"states": name, "width": chosen(tested)[0].shape[1], "frames": len(_joined(tested)[1])}
            for part, column in enumerate(("synthetic_to_real", "and_people_to_real")[: len(learned)], 1):
                row[column] = round(probe(chosen(sum(learned[:part], [])), chosen(tested)), 4)
            yield row


def frames_of(
    encoder: AudioEncoder, samples: Sequence[Sample], most: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Of each sample the windows of states (F, W, L, D) of its video frames and their visemes (F,); `most` in all."""
    import torch

    from avatar.models.audio_encoder import window_frames

    found = []
    for number, (_, sound, phones) in enumerate(samples):
        windows = window_frames(encoder.states(sound), encoder.config.window)
        times = (np.arange(len(windows)) + 0.5) / encoder.config.fps
        phone = labels_at(phones, times)
        kept = np.flatnonzero((phone != UNKNOWN) & (times < phones[-1].end))
        if most:
            kept = np.random.default_rng(number).permutation(kept)[: most // len(samples) + 1]
        found.append((windows[torch.from_numpy(kept)], torch.from_numpy(VISEME_OF[phone[kept]])))
    return found


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    import torch

    return torch.cat([states for states, _ in parts]), torch.cat([labels for _, labels in parts])


def probe(learned: tuple[Tensor, Tensor], tested: tuple[Tensor, Tensor]) -> float:
    """Accuracy on `tested` of a multinomial logistic regression on standardised states, fitted by L-BFGS."""
    states, labels = learned
    mean, deviation = states.mean(0), states.std(0) + 1e-4
    return _accuracy(_fitted((states - mean) / deviation, labels, PENALTY), (tested[0] - mean) / deviation, tested[1])


def _fitted(states: Tensor, labels: Tensor, penalty: float) -> nn.Linear:
    import torch
    from torch import nn

    linear = nn.Linear(states.shape[1], len(VISEMES))
    nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=25, line_search_fn="strong_wolfe")

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
