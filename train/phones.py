"""One small set of phones, the notations that are mapped to it, and the visemes that they show.

The phones are ARPAbet's 39 of American English without stress, and SIL for everything that is no speech. Espeak-ng and
the Montreal Forced Aligner write IPA, flite (in small letters) and many TextGrids ARPAbet; "PT" of a hand-made
TextGrid is P and T. What several phones share the time of (IPA "aɪə") is cut into equal parts.

The visemes are the 15 of MPEG-4 (ISO/IEC 14496-2, table of viseme_select); the phones that it does not name are put
with the nearest shape of the lips.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pose.phone_lips import PHONES
from pose.textgrid import Interval

UNKNOWN = -100  # label of a frame of which nothing is known; torch's cross entropy leaves it out
UNKNOWN_TEXT = "?"  # the same in a TextGrid

VISEMES: dict[str, tuple[str, ...]] = {
    "none": ("SIL",),
    "p b m": ("P", "B", "M"),
    "f v": ("F", "V"),
    "th dh": ("TH", "DH"),
    "t d": ("T", "D"),
    "k g": ("K", "G", "NG", "HH"),
    "ch jh sh": ("CH", "JH", "SH", "ZH"),
    "s z": ("S", "Z"),
    "n l": ("N", "L"),
    "r": ("R", "ER"),
    "aa": ("AA", "AH", "AW", "AY"),
    "eh": ("EH", "AE", "EY"),
    "ih": ("IH", "IY", "Y"),
    "ao": ("AO", "OW", "OY"),
    "uh": ("UH", "UW", "W"),
}
VISEME_OF = np.array([[phone in group for group in VISEMES.values()].index(True) for phone in PHONES])

# IPA, longest first where one begins another. Vowels before r and of other accents go to the nearest American phone.
_IPA = {
    "tʃ": "CH", "dʒ": "JH", "oːɹ": "AO R", "ɔːɹ": "AO R", "ʊɹ": "UH R", "aɪ": "AY", "aj": "AY", "əɪ": "AY", "aʊ": "AW",
    "aw": "AW", "æʊ": "AW", "ʌʊ": "AW", "ʌʉ": "AW", "əu": "AW", "eɪ": "EY", "ei": "EY", "ej": "EY", "eː": "EY",
    "oʊ": "OW", "ow": "OW", "əʊ": "OW", "oː": "OW", "ɔɪ": "OY", "oɪ": "OY", "ɔj": "OY", "oə": "AO", "ɔə": "AO",
    "ɑə": "AA", "eə": "EH", "ɛə": "EH", "ʊə": "UH AH", "iə": "IY AH", "iː": "IY", "aː": "AA", "a:": "AA", "aa": "AE",
    "a": "AE", "æ": "AE", "œ": "EH", "ɐ": "AH", "ə": "AH", "ʌ": "AH", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "o": "OW",
    "b": "B", "d": "D", "ð": "DH", "ɛ": "EH", "e": "EH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "f": "F", "ɡ": "G",
    "g": "G", "h": "HH", "x": "HH", "ç": "HH", "ɪ": "IH", "ᵻ": "IH", "ɨ": "IH", "i": "IY", "k": "K", "c": "K",
    "ɟ": "G", "l": "L", "ɫ": "L", "ʎ": "L", "m": "M", "ɱ": "M", "n": "N", "ɲ": "N", "ŋ": "NG", "p": "P", "ɹ": "R",
    "r": "R", "s": "S", "ʃ": "SH", "t": "T", "ɾ": "T", "ʔ": "T", "θ": "TH", "ʊ": "UH", "u": "UW", "ʉ": "UW", "v": "V",
    "ʋ": "V", "w": "W", "ʍ": "W", "j": "Y", "z": "Z", "ʒ": "ZH",
}  # fmt: skip
_ARPABET = {**{phone: phone for phone in PHONES}, "AX": "AH", "AXR": "ER"}
_SILENCE = ("", "sil", "sp", "pau", "_", "_:", "<sil>")
_NOISE = ("spn", "nsn", "noise", "laughter", "<unk>")
_IGNORED = "ːˑˈˌʲʷʰ:"  # length, stress, secondary articulation; combining marks too


def phones_of(text: str) -> tuple[str, ...] | None:
    """The phones of one label, ARPAbet in capitals or IPA; None where it names nothing that is known."""
    if text.lower() in _SILENCE:
        return ("SIL",)
    if text.lower() in _NOISE:
        return None
    bare = text.rstrip("012")
    if bare.isupper() and bare.isascii():
        return _split(bare, _ARPABET)
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c) or c == "̧")
    return _split(unicodedata.normalize("NFC", plain), _IPA)


def _split(text: str, table: dict[str, str]) -> tuple[str, ...] | None:
    found: list[str] = []
    while text:
        length = next((n for n in (3, 2, 1) if text[:n] in table), 0)
        if length:
            found += table[text[:length]].split()
        elif text[0] not in _IGNORED:
            return None
        text = text[max(length, 1) :]
    return tuple(found) or None


def unified(intervals: Iterable[Interval], notes: dict[str, int] | None = None) -> tuple[Interval, ...]:
    """Intervals of any notation as intervals of our phones; SIL is written as an empty text, as Praat has it.

    Labels that are not known become "?" and are counted in `notes`. Intervals without length are left out.
    """
    found: list[Interval] = []
    for start, end, text in intervals:
        if end <= start:
            continue
        phones = phones_of(text) if text != UNKNOWN_TEXT else None
        if phones is None:
            if notes is not None:
                notes[text] = notes.get(text, 0) + 1
            phones = (UNKNOWN_TEXT,)
        edges = np.linspace(start, end, len(phones) + 1)
        for phone, low, high in zip(phones, edges[:-1], edges[1:], strict=True):
            text = "" if phone == "SIL" else phone
            if found and found[-1].text == text == "" and abs(found[-1].end - low) < 1e-6:
                found[-1] = Interval(found[-1].start, float(high), "")
            else:
                found.append(Interval(float(low), float(high), text))
    return tuple(found)


def labels_at(intervals: Sequence[Interval], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """The phone's place in PHONES at each time (F,) in seconds; SIL outside the intervals, UNKNOWN in "?"."""
    labels = np.zeros(len(times), np.int64)
    for start, end, text in intervals:
        inside = slice(*np.searchsorted(times, (start, end)))
        labels[inside] = UNKNOWN if text == UNKNOWN_TEXT else PHONES.index(text or "SIL")
    return labels
