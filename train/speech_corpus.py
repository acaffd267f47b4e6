"""Make speech whose phones are timed, to train the audio encoder on: many synthetic voices say the given sentences.

    python train/speech_corpus.py train/speech_sentences.txt OUT --hours 2

TEXTS is a file with a sentence a line; several files may be given. Every other utterance takes the words of the texts
in a new order, so that any phone meets any other. Voices are espeak-ng's accents of English times its variants, at
random rates and pitches, and flite's. Some voices are held out: they are the split "val". No recording of a person is
needed.

OUT/VOICE/NNNNN.flac      16 kHz mono
OUT/VOICE/NNNNN.TextGrid  tier "phones", in the phones of train/phones.py
OUT/corpus.json           {"utterances": [{"name", "voice", "split", "duration_s"}, …], …}; written last
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from pose.textgrid import write_textgrid
from train.speech_voices import FLITE_HZ, FLITE_VOICES, SAMPLE_RATE, Espeak, Utterance, flite_program, flite_speak

ACCENTS = ("en-us", "en-us", "en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
VARIANTS = (
    "", "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "klatt", "klatt2", "klatt3",
    "klatt4", "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky",
    "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "benjamin",
    "boris", "caleb", "david", "ed", "edward", "grandma", "grandpa", "gustave", "iven", "john", "linda", "marcelo",
    "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby",
    "steph", "travis", "victor", "whisper", "zac",
)  # fmt: skip
HELD_OUT = ("rms", "f4", "m7", "klatt3", "linda", "adam", "Andrea", "boris")  # in no accent are they trained on
FLITE_SHARE = 0.3  # ours: of the utterances; four voices, but the ones that were built from recordings of people
WORDS = (4, 12)  # of a sentence made of shuffled words


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="espeak-ng and flite come with most Linux distributions: apt install espeak-ng flite",
    )  # fmt: skip
    parser.add_argument("texts", nargs="+", help="text files, a sentence a line")
    parser.add_argument("out", help="folder of the corpus, made anew")
    parser.add_argument("--hours", type=float, default=2.0, help="of speech (default: %(default)s)")
    parser.add_argument("--programs", default="espeak,flite", help="which of the two (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    try:
        made = make_corpus(
            read_sentences(arguments.texts), Path(arguments.out), arguments.hours * 3600.0,
            arguments.programs.split(","), arguments.seed,
        )  # fmt: skip
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(made)
    return 0


def read_sentences(paths: Sequence[str]) -> list[str]:
    """The sentences of text files, a line each; of a line with bars, as LJSpeech's lists have, the last part."""
    sentences: list[str] = []
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no text file that can be read: {error}") from None
        sentences += [line.rpartition("|")[2].strip() for line in lines if line.strip()]
    if not sentences:
        raise ValueError("the texts hold no sentence; write one a line")
    return sentences


def make_corpus(
    sentences: Sequence[str], out: Path, seconds: float, programs: Sequence[str] = ("espeak", "flite"), seed: int = 0
) -> str:
    """Say sentences until there are `seconds` of speech; returns a line that says what was made.

    ValueError if a program is not there or the folder holds something else.
    """
    if unknown := set(programs) - {"espeak", "flite"}:
        raise ValueError(f"programs must be espeak, flite or both, got {', '.join(sorted(unknown))}")
    if not seconds > 0:
        raise ValueError(f"hours must be above 0, got {seconds / 3600:g}")
    if out.exists() and any(out.iterdir()) and not (out / "corpus.json").exists():
        raise ValueError(f"{out} is not empty and holds no speech corpus; give another folder")
    espeak = Espeak() if "espeak" in programs else None
    if "flite" in programs:
        flite_program()
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    total = 0.0
    for voice, utterance in _spoken(_texts(sentences, rng), espeak, "flite" in programs, rng):
        if total >= seconds:
            break
        folder = out / voice.replace("+", "_")
        folder.mkdir(parents=True, exist_ok=True)
        split = "val" if voice.rpartition("+")[2] in HELD_OUT else "train"
        rows.append(write_utterance(out, f"{folder.name}/{len(rows):05d}", voice, split, utterance))
        total += utterance.duration_s
    write_list(out, rows, f"synthetic, seed {seed}")
    voices = {split: len({row["voice"] for row in rows if row["split"] == split}) for split in ("train", "val")}
    return (
        f"{out}: {len(rows)} utterances, {total / 3600:.2f} h, {voices['train']} voices to train on, "
        f"{voices['val']} held out"
    )


def write_utterance(out: Path, name: str, voice: str, split: str, utterance: Utterance) -> dict[str, object]:
    """Write sound and phones under `name`; returns the row of the list."""
    soundfile.write(str(out / f"{name}.flac"), np.clip(utterance.waveform, -1.0, 1.0), SAMPLE_RATE)
    write_textgrid(out / f"{name}.TextGrid", {"phones": utterance.phones}, utterance.phones[-1].end)
    return {"name": name, "voice": voice, "split": split, "duration_s": round(utterance.duration_s, 4)}


def write_list(out: Path, rows: list[dict[str, object]], origin: str) -> None:
    part = out / ".corpus.json.part"
    part.write_text(json.dumps({"origin": origin, "utterances": rows}, indent=0), encoding="utf-8")
    part.replace(out / "corpus.json")


def _texts(sentences: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Without end, by turns a sentence as it is and words of all the sentences in a new order."""
    words = sorted({word.strip(".,;:!?\"'()-").lower() for line in sentences for word in line.split()} - {""})
    while True:
        yield sentences[int(rng.integers(len(sentences)))]
        chosen = [words[int(i)] for i in rng.integers(len(words), size=int(rng.integers(*WORDS)))]
        yield " ".join(word + "," * bool(rng.random() < 0.12) for word in chosen) + "."


def _spoken(
    texts: Iterator[str], espeak: Espeak | None, flite: bool, rng: np.random.Generator
) -> Iterator[tuple[str, Utterance]]:
    """(voice, utterance) without end; texts that a voice cannot say are left out."""
    for text in texts:
        choice = rng.random(6)
        if flite and (espeak is None or choice[0] < FLITE_SHARE):
            voice = FLITE_VOICES[int(choice[1] * len(FLITE_VOICES))]
            pitch = FLITE_HZ[voice] * 2.0 ** (choice[2] - 0.5)  # half an octave about the voice's own
            yield voice, flite_speak(text, voice, 0.75 + 0.6 * choice[3], pitch)
        elif espeak is not None:
            variant = VARIANTS[int(choice[1] * len(VARIANTS))]
            accent = ACCENTS[int(choice[2] * len(ACCENTS))]
            voice = f"{accent}+{variant}" if variant else accent
            yield voice, espeak.speak(text, voice, int(120 + 130 * choice[3]), int(20 + 60 * choice[4]))


if __name__ == "__main__":
    sys.exit(main())
