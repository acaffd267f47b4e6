"""Who a synthetic person is: shape, colours and clothes, all from one random generator.

Shapes are MakeHuman targets with amounts. Palettes and amounts were chosen by hand on contact sheets, leaning towards
a drawn, friendly look (larger eyes and head, raised brows, a hint of a smile), because these meshes without
photographic skin look uneasy when they try to be real. Colours are written as sRGB 0 to 255 and used as linear light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.motion import EXPRESSION_NAMES, expression_index

Array = NDArray[np.float64]
Triple = tuple[float, float, float]
Rgb = tuple[int, int, int]

RACES = ("caucasian", "asian", "african")
# Skin from light to dark.
SKINS: tuple[Rgb, ...] = (
    (238, 202, 180), (230, 188, 162), (219, 172, 142), (205, 156, 122), (186, 134, 100), (160, 108, 76), (128, 82, 56),
    (98, 62, 43), (76, 48, 36),
)  # fmt: skip
SKINS_OF = {"caucasian": (0, 5), "asian": (1, 5), "african": (5, 9)}  # range of the palette
DARK_HAIR: tuple[Rgb, ...] = ((26, 21, 19), (38, 28, 23), (52, 36, 27))
LIGHT_HAIR: tuple[Rgb, ...] = ((78, 52, 34), (110, 74, 45), (150, 108, 66), (190, 152, 98), (132, 64, 34))
GREY_HAIR: tuple[Rgb, ...] = ((128, 124, 120), (176, 172, 166), (88, 84, 82))
DARK_IRIS: tuple[Rgb, ...] = ((74, 46, 28), (92, 58, 34), (112, 76, 42))
LIGHT_IRIS: tuple[Rgb, ...] = ((92, 122, 142), (108, 126, 96), (112, 110, 82), (84, 104, 126))
TOPS: tuple[Rgb, ...] = (
    (38, 110, 116), (40, 56, 92), (118, 40, 52), (196, 148, 62), (128, 148, 118), (92, 104, 118), (168, 88, 60),
    (222, 212, 194), (58, 60, 64), (232, 230, 226), (158, 142, 176), (48, 84, 66), (78, 108, 146), (198, 142, 140),
    (170, 132, 94), (34, 36, 40), (176, 52, 52), (112, 128, 60), (62, 132, 160), (150, 96, 128),
)  # fmt: skip
SHIRTS: tuple[Rgb, ...] = ((236, 236, 234), (226, 218, 202), (186, 206, 226), (214, 196, 200), (120, 140, 160))
JACKETS: tuple[Rgb, ...] = ((36, 44, 66), (58, 58, 62), (150, 118, 84), (46, 66, 56), (92, 40, 48), (90, 96, 104))
TIES: tuple[Rgb, ...] = ((130, 36, 44), (36, 52, 96), (44, 84, 70), (150, 120, 60), (70, 60, 90))
BOTTOMS: tuple[Rgb, ...] = ((44, 52, 70), (48, 48, 52), (120, 104, 82), (30, 30, 34), (70, 76, 84))
# Outfits with their share; the last entry of each row says which colours they take.
FEMALE_OUTFITS = {
    "female_casualsuit01": 1.0, "female_casualsuit02": 0.7, "female_elegantsuit01": 1.6, "male_casualsuit02": 1.2,
    "male_casualsuit03": 0.8, "male_casualsuit05": 0.8,
}  # fmt: skip
MALE_OUTFITS = {
    "male_casualsuit01": 0.6, "male_casualsuit02": 1.0, "male_casualsuit03": 1.0, "male_casualsuit04": 0.7,
    "male_casualsuit05": 0.9, "male_casualsuit06": 0.5, "male_elegantsuit01": 1.4, "male_worksuit01": 0.2,
}  # fmt: skip
SUITS = ("male_elegantsuit01", "male_casualsuit05")  # an open jacket over a shirt
BUZZ = "buzz"  # a coloured scalp in place of a mesh
FEMALE_HAIR = {"long01": 2.2, "ponytail01": 1.0, "bob02": 0.8, "braid01": 0.4, "short02": 0.4}
MALE_HAIR = {"short01": 1.2, "short02": 0.8, BUZZ: 0.5, "ponytail01": 0.12}
BROWS = ("eyebrow001", "eyebrow002", "eyebrow004", "eyebrow008", "eyebrow010")
# Features of the face that vary: pairs of opposite targets, one of which gets up to the amount.
FEATURES: tuple[tuple[str, str, float], ...] = (
    ("nose/nose-scale-horiz-decr", "nose/nose-scale-horiz-incr", 0.5),
    ("nose/nose-scale-vert-decr", "nose/nose-scale-vert-incr", 0.4),
    ("nose/nose-hump-decr", "nose/nose-hump-incr", 0.5),
    ("nose/nose-point-down", "nose/nose-point-up", 0.35),
    ("nose/nose-scale-depth-decr", "nose/nose-scale-depth-incr", 0.35),
    ("mouth/mouth-scale-horiz-decr", "mouth/mouth-scale-horiz-incr", 0.4),
    ("mouth/mouth-lowerlip-height-decr", "mouth/mouth-lowerlip-height-incr", 0.4),
    ("mouth/mouth-upperlip-height-decr", "mouth/mouth-upperlip-height-incr", 0.4),
    ("chin/chin-width-decr", "chin/chin-width-incr", 0.6),
    ("chin/chin-height-decr", "chin/chin-height-incr", 0.4),
    ("chin/chin-prominent-decr", "chin/chin-prominent-incr", 0.4),
    ("head/head-fat-decr", "head/head-fat-incr", 0.5),
    ("head/head-oval", "head/head-round", 0.6),
    ("head/head-invertedtriangular", "head/head-square", 0.4),
    ("forehead/forehead-scale-vert-decr", "forehead/forehead-scale-vert-incr", 0.4),
    ("neck/neck-scale-horiz-decr", "neck/neck-scale-horiz-incr", 0.3),
    ("eyebrows/eyebrows-trans-down", "eyebrows/eyebrows-trans-up", 0.3),
)
EYE_FEATURES: tuple[tuple[str, str, float], ...] = (
    ("corner1-down", "corner1-up", 0.4), ("corner2-down", "corner2-up", 0.4), ("height2-decr", "height2-incr", 0.25),
    ("trans-in", "trans-out", 0.25), ("eyefold-down", "eyefold-up", 0.4),
)  # fmt: skip
CHEEKS: tuple[tuple[str, str, float], ...] = (("bones-decr", "bones-incr", 0.5), ("volume-decr", "volume-incr", 0.4))
FRIENDLY = {
    "eyes/l-eye-scale-incr": 0.75, "eyes/r-eye-scale-incr": 0.75, "head/head-scale-vert-incr": 0.5,
    "head/head-scale-horiz-incr": 0.45, "head/head-scale-depth-incr": 0.5, "ears/l-ear-wing-decr": 0.8,
    "ears/r-ear-wing-decr": 0.8, "ears/l-ear-scale-decr": 0.5, "ears/r-ear-scale-decr": 0.5,
    "armslegs/l-upperarm-fat-decr": 0.4, "armslegs/r-upperarm-fat-decr": 0.4,
    "armslegs/l-upperarm-shoulder-muscle-decr": 0.5, "armslegs/r-upperarm-shoulder-muscle-decr": 0.5,
    "torso/torso-scale-horiz-decr": 0.45,
}  # fmt: skip


def linear(colour: Rgb | Array) -> Array:
    """sRGB 0 to 255 to linear light."""
    value = np.asarray(colour, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


@dataclass(frozen=True)
class Weave:
    """A pattern on cloth: 0 plain, 1 stripes across, 2 checks, 3 pin stripes, 4 ribs; stripes a decimetre."""

    kind: int = 0
    along: float = 1.0
    contrast: float = 0.0
    down: float = 1.0
    colour: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Look:
    """One person at rest. Colours are linear; `colours` of cloth are top, jacket, tie or lapel, bottom."""

    targets: dict[str, float]
    units: str = "caucasian"  # whose expression units move this face
    skin: Triple = (0.66, 0.385, 0.275)
    lip: Triple = (0.50, 0.140, 0.135)
    blush: Triple = (0.70, 0.265, 0.200)
    lip_gloss: float = 0.5
    stubble: float = 0.0
    hair: str = "short02"
    hair_colour: Triple = (0.045, 0.02, 0.009)
    hair_gloss: float = 1.0
    hair_end: float | None = None  # decimetres below the eyes where hair is cut
    brow: str = "eyebrow001"
    brow_colour: Triple = (0.03, 0.015, 0.008)
    brow_tilt: float = 0.08
    lashes: str = "eyelashes01"
    lash_strength: float = 1.0
    iris: Triple = (0.20, 0.10, 0.045)
    outfit: str = "male_casualsuit02"
    colours: tuple[Triple, Triple, Triple, Triple] = ((0.05, 0.2, 0.2),) * 4
    weave: Weave = Weave()
    smile: float = 0.3

    def face_at_rest(self) -> Array:
        """(51,) the expression that this face has when nothing moves."""
        values = np.zeros(len(EXPRESSION_NAMES))
        amounts = {"mouthSmile": self.smile, "eyeSquint": 0.15, "eyeBlink": 0.06, "browOuterUp": 0.2}
        for name, amount in amounts.items():
            for side in ("Left", "Right"):
                values[expression_index(name + side)] = amount
        values[expression_index("browInnerUp")] = 0.22
        return values


def draw_look(random: np.random.Generator) -> Look:
    """A person at random."""
    # 1. Shape: sex, age, descent, build; then features.
    female = bool(random.random() < 0.5)
    sex = float(np.clip(random.normal(0.95 if female else 0.05, 0.04), 0, 1))
    old = float(random.beta(1.1, 2.4))
    descent = random.dirichlet([0.45] * 3)
    muscle, weight = random.dirichlet([1.2, 3.0, 0.5]), random.dirichlet([1.2, 3.0, 0.4])
    targets: dict[str, float] = dict(FRIENDLY)
    for name, share in (("female", sex), ("male", 1 - sex)):
        for age, part in (("young", 1 - old), ("old", old)):
            for race, amount in zip(RACES, descent, strict=True):
                targets[f"macrodetails/{race}-{name}-{age}"] = share * part * amount
            for strength, a in zip(("min", "average", "max"), muscle, strict=True):
                for mass, b in zip(("min", "average", "max"), weight, strict=True):
                    amount = share * part * a * b
                    if amount > 0.004:
                        targets[f"macrodetails/universal-{name}-{age}-{strength}muscle-{mass}weight"] = amount
    for low, high, most in FEATURES:
        amount = float(np.clip(random.normal(0, 0.5), -1, 1)) * most
        targets[high if amount > 0 else low] = abs(amount)
    for prefix, pairs in (("eyes/{}-eye-", EYE_FEATURES), ("cheek/{}-cheek-", CHEEKS)):
        for low, high, most in pairs:
            amount = float(np.clip(random.normal(0, 0.5), -1, 1)) * most
            for side in "lr":
                targets[prefix.format(side) + (high if amount > 0 else low)] = abs(amount)

    # 2. Colours of skin, hair and eyes.
    race = RACES[int(np.argmax(descent))]
    first, last = SKINS_OF[race]
    tone = random.uniform(first, last - 1)
    at = int(tone)
    skin = linear(np.array(SKINS[at]) * (1 - tone + at) + np.array(SKINS[min(at + 1, len(SKINS) - 1)]) * (tone - at))
    skin *= 1 + random.normal(0, 0.02, 3)
    fair = race == "caucasian" and tone < 4
    if random.random() < np.clip(2.5 * (old - 0.45), 0, 0.8):
        hair = linear(GREY_HAIR[int(random.integers(len(GREY_HAIR)))])
    elif fair and random.random() < 0.65:
        hair = linear(LIGHT_HAIR[int(random.integers(len(LIGHT_HAIR)))])
    else:
        hair = linear(DARK_HAIR[int(random.integers(len(DARK_HAIR)))])
    hair *= random.uniform(0.85, 1.15)
    irises = LIGHT_IRIS if fair and random.random() < 0.55 else DARK_IRIS
    iris = linear(irises[int(random.integers(len(irises)))])
    made_up = female and random.random() < 0.6
    lip = skin * (0.82, 0.50, 0.52)
    if made_up:
        tint = linear(((186, 72, 76), (170, 60, 84), (196, 104, 92))[int(random.integers(3))])
        lip = lip * 0.45 + tint * 0.55 * np.clip(skin[0] / 0.6, 0.35, 1)
    brow = np.minimum(hair * 0.55, 0.09)

    # 3. Hair and clothes.
    style = pick(random, FEMALE_HAIR if female else MALE_HAIR)
    outfit = pick(random, FEMALE_OUTFITS if female else MALE_OUTFITS)
    top = TOPS[int(random.integers(len(TOPS)))]
    jacket = JACKETS[int(random.integers(len(JACKETS)))]
    if outfit in SUITS:
        top = SHIRTS[int(random.integers(len(SHIRTS)))]
    tie, bottom = TIES[int(random.integers(len(TIES)))], BOTTOMS[int(random.integers(len(BOTTOMS)))]
    if outfit == "male_casualsuit05":
        tie = (int(0.8 * jacket[0]), int(0.8 * jacket[1]), int(0.8 * jacket[2]))  # its lapels
    colours = tuple(triple(linear(c)) for c in (top, jacket, tie, bottom))
    return Look(
        targets=targets,
        units=race,
        skin=triple(skin),
        lip=triple(lip),
        blush=triple(skin * (1.06, 0.70, 0.66)),
        lip_gloss=float(random.uniform(0.8, 1.4) if made_up else random.uniform(0.2, 0.6)),
        stubble=0.0 if female or random.random() < 0.5 else float(random.uniform(0.10, 0.5)),
        hair=style,
        hair_colour=triple(hair),
        hair_end=float(random.uniform(1.3, 4.5)) if style == "long01" and random.random() < 0.75 else None,
        hair_gloss=float(random.uniform(0.6, 1.1)),
        brow=BROWS[int(random.integers(len(BROWS)))],
        brow_colour=triple(brow),
        brow_tilt=float(random.uniform(0.10, 0.19)),
        lashes=f"eyelashes0{int(random.integers(1, 3))}",
        lash_strength=1.0 if female else 0.5,
        iris=triple(iris),
        outfit=outfit,
        colours=colours,  # type: ignore[arg-type]
        weave=draw_weave(random, linear(jacket if outfit in SUITS else top), outfit in SUITS),
        smile=float(random.uniform(0.35, 0.65)),
    )


def draw_weave(random: np.random.Generator, base: Array, suit: bool) -> Weave:
    """A pattern that goes with a colour; half of all clothes are plain."""
    shares = (0.7, 0.0, 0.0, 0.2, 0.1) if suit else (0.45, 0.13, 0.07, 0.12, 0.23)
    kind = int(random.choice(len(shares), p=shares))
    lighter = base.mean() < 0.25
    colour = base * random.uniform(1.6, 2.6) + 0.03 if lighter else base * random.uniform(0.45, 0.7)
    along = {0: 1.0, 1: 1.0, 2: random.uniform(1.2, 2.2), 3: random.uniform(1.6, 2.6), 4: random.uniform(4.0, 6.0)}
    down = random.uniform(1.2, 2.6)
    contrast = {0: 0.0, 1: random.uniform(0.5, 0.9), 2: random.uniform(0.25, 0.5), 3: 0.5, 4: 0.22}
    return Weave(kind, float(along[kind]), float(contrast[kind]), float(down), triple(np.clip(colour, 0, 0.9)))


def pick(random: np.random.Generator, shares: dict[str, float]) -> str:
    """A name with its share of the chances."""
    weights = np.array(list(shares.values()))
    return str(random.choice(list(shares), p=weights / weights.sum()))


def triple(values: Array) -> Triple:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
