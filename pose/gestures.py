"""Gestures of both hands: which, when and how large, as a stream of key poses and the smooth way through them.

Letters: F frames, K key poses, P = 11 parameters of a hand (`pose.arms`).

A gesture is preparation, stroke, hold and retraction (Kendon 2004, chapter 7). Strokes end on stressed syllables
(the tip of a beat falls on or a little before the loudest moment; Leonard and Cummins 2011), hands go home in pauses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.arms import COUNT, CURL, DEVIATE, EXTEND, FORWARD, LIFT, OUT, PINCH, POINT, REST, ROLL, SPREAD, UP
from pose.stress import Stress, gaussian_smooth

Double = NDArray[np.float64]

TAKEN_AHEAD_S = 0.02  # the stroke ends this much before the loudest moment
PEAK_ACCELERATION = 42.0  # sw/s² of one minimum-jerk reach, far below the 65 of real gestures as reaches add up
PAUSE_S = 0.8  # hands go home in pauses longer than this
KEY_MARGIN_S = 1.0  # keys are known this far beyond the frames that are evaluated


@dataclass(frozen=True)
class Shape:
    """One word of the vocabulary: hand parameters, relative to rest, where the preparation and the stroke end.

    `hands` 2 or 1; `share` how often it is chosen; `strokes` most strokes before another shape is taken; `step` how
    the stroke's end moves on from beat to beat, as a list does.
    """

    name: str
    hands: int
    share: float
    strokes: int
    ready: dict[int, float]
    stroke: dict[int, float]
    step: dict[int, float]


SHAPES = (
    Shape("beat", 2, 2.0, 4,
          {OUT: 0.02, UP: 0.38, FORWARD: 0.02, ROLL: 0.14, EXTEND: 0.15, CURL: -0.02, SPREAD: 0.15},
          {OUT: 0.12, UP: 0.14, FORWARD: 0.1, ROLL: 0.19, EXTEND: -0.05, CURL: -0.12, SPREAD: 0.3}, {OUT: 0.05}),
    Shape("open palms", 2, 1.8, 2,
          {OUT: 0.0, UP: 0.22, FORWARD: 0.02, ROLL: 0.17, CURL: 0.02, SPREAD: 0.0},
          {OUT: 0.34, UP: 0.26, FORWARD: 0.1, ROLL: 0.69, EXTEND: 0.1, CURL: -0.2, SPREAD: 0.45, LIFT: 0.1},
          {OUT: 0.03, UP: -0.03}),
    Shape("offer", 1, 1.3, 3,
          {OUT: 0.0, UP: 0.3, ROLL: 0.19, CURL: 0.0, SPREAD: 0.1},
          {OUT: 0.3, UP: 0.2, FORWARD: 0.14, ROLL: 0.74, EXTEND: 0.05, CURL: -0.2, SPREAD: 0.4},
          {OUT: 0.06, UP: 0.02}),
    Shape("sweep", 1, 1.0, 1,
          {OUT: -0.2, UP: 0.34, FORWARD: 0.03, ROLL: 0.11, CURL: 0.0, SPREAD: 0.1, LIFT: 0.15},
          {OUT: 0.5, UP: 0.34, FORWARD: 0.02, ROLL: 0.41, EXTEND: 0.15, DEVIATE: -0.1, CURL: -0.2, SPREAD: 0.4,
           LIFT: 0.25}, {}),
    Shape("sweep apart", 2, 0.7, 1,
          {OUT: -0.04, UP: 0.3, FORWARD: 0.04, ROLL: 0.06, CURL: 0.0, SPREAD: 0.1, LIFT: 0.1},
          {OUT: 0.42, UP: 0.32, FORWARD: 0.02, ROLL: 0.28, EXTEND: 0.1, CURL: -0.18, SPREAD: 0.4, LIFT: 0.2}, {}),
    Shape("raise", 2, 0.8, 1,
          {OUT: 0.06, UP: -0.02, FORWARD: 0.05, ROLL: 0.5, CURL: 0.02, SPREAD: 0.1},
          {OUT: 0.2, UP: 0.55, FORWARD: 0.06, ROLL: 0.72, EXTEND: 0.15, CURL: -0.16, SPREAD: 0.45, LIFT: 0.15}, {}),
    Shape("raise one", 1, 0.6, 1,
          {OUT: 0.04, UP: 0.05, FORWARD: 0.02, ROLL: 0.28, CURL: 0.02, SPREAD: 0.1},
          {OUT: 0.2, UP: 0.6, FORWARD: 0.06, ROLL: 0.5, EXTEND: 0.2, CURL: -0.15, SPREAD: 0.4, LIFT: 0.1}, {}),
    Shape("together", 2, 0.8, 3,
          {OUT: 0.24, UP: 0.36, FORWARD: 0.04, ROLL: 0.19, CURL: -0.02, SPREAD: 0.15},
          {OUT: -0.05, UP: 0.24, FORWARD: 0.12, ROLL: 0.17, CURL: -0.1, SPREAD: 0.1}, {UP: 0.03, OUT: 0.05}),
    Shape("frame", 2, 0.8, 3,
          {OUT: 0.12, UP: 0.44, FORWARD: 0.02, ROLL: 0.17, EXTEND: 0.1, CURL: -0.02, SPREAD: 0.2},
          {OUT: 0.24, UP: 0.26, FORWARD: 0.1, ROLL: 0.14, CURL: -0.1, SPREAD: 0.35, LIFT: 0.1}, {OUT: 0.1}),
    Shape("point", 1, 0.8, 3,
          {OUT: 0.08, UP: 0.5, FORWARD: 0.0, ROLL: 0.03, EXTEND: 0.1, POINT: 0.9, CURL: 0.1},
          {OUT: 0.16, UP: 0.36, FORWARD: 0.12, ROLL: 0, EXTEND: -0.1, POINT: 1.0, CURL: 0.1}, {OUT: 0.1}),
    Shape("precise", 1, 0.9, 4,
          {OUT: 0.04, UP: 0.44, ROLL: 0.14, EXTEND: 0.12, PINCH: 0.8, CURL: -0.08},
          {OUT: 0.12, UP: 0.26, FORWARD: 0.12, ROLL: 0.17, EXTEND: -0.1, PINCH: 1.0, CURL: -0.12}, {OUT: 0.04}),
    Shape("precise both", 2, 0.5, 3,
          {OUT: 0.04, UP: 0.43, ROLL: 0.11, EXTEND: 0.12, PINCH: 0.7, CURL: -0.05},
          {OUT: 0.12, UP: 0.24, FORWARD: 0.1, ROLL: 0.14, EXTEND: -0.08, PINCH: 0.9, CURL: -0.1}, {OUT: 0.05}),
    Shape("beat one", 1, 1.6, 4,
          {OUT: 0.02, UP: 0.41, ROLL: 0.17, EXTEND: 0.18, CURL: 0.0, SPREAD: 0.15},
          {OUT: 0.14, UP: 0.16, FORWARD: 0.1, ROLL: 0.22, EXTEND: -0.06, CURL: -0.12, SPREAD: 0.3},
          {OUT: 0.05, UP: 0.02}),
)  # fmt: skip


def _vector(values: dict[int, float]) -> Double:
    vector = np.zeros(COUNT)
    for index, value in values.items():
        vector[index] = value
    return vector


@dataclass(frozen=True)
class Stroke:
    """A planned stroke: leaves the ready pose at `start_s`, ends at `time_s`; `hands` (left, right) take part."""

    name: str
    start_s: float
    time_s: float
    hands: tuple[bool, bool]


class GesturePlanner:
    """Plans both hands of one speaker, in order of time, from stresses and pauses a few seconds ahead.

    `seed` decides handedness, size, tempo and taste. Call `extend` with growing times, then `evaluate` up to there.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 7])
        draw = self._random.uniform
        self.amplitude = draw(1.12, 1.45)
        self.tempo = draw(0.85, 1.15)
        self.dominant = 1 if draw() < 0.8 else 0  # column of the leading hand: right in four of five
        self.two_handed = draw(1.2, 2.2)
        self._taste = np.array([s.share * draw(0.5, 1.5) * (self.two_handed if s.hands == 2 else 1.0) for s in SHAPES])
        self._lag_s = draw(0.015, 0.045)  # the other hand follows
        self._keys: list[tuple[float, Double]] = [(-1.0, np.zeros((2, COUNT))), (0.0, np.zeros((2, COUNT)))]
        self._resting = True
        self._shape = SHAPES[0]
        self._hands = (True, True)
        self._left = 0  # strokes left in this shape
        self._done = 0
        self._side = np.ones(2)
        self._recent: list[str] = []
        self.strokes: list[Stroke] = []

    def extend(
        self,
        until_s: float,
        stresses: list[Stress],  # at least until 5 s after `until_s`
        speech_until: list[tuple[float, float]],  # stretches of speech, (start, end) seconds
    ) -> None:
        """Plan until keys are known beyond `until_s`; what was planned before never changes."""
        while self._keys[-2][0] < until_s + KEY_MARGIN_S:
            now = self._keys[-1][0]
            ahead = [s for s in stresses if s.time_s > now + 0.25]
            if self._resting:
                self._from_rest(now, ahead)
            elif not self._silent(now + 0.1, now + 0.1 + PAUSE_S, speech_until):
                self._next_stroke(now, ahead)
            else:
                self._retract(now)
        while len(self._keys) > 8 and self._keys[6][0] < until_s - 4.0:
            self._keys.pop(0)
        self.strokes = [s for s in self.strokes if s.time_s > until_s - 8.0]

    def evaluate(self, time: Double) -> Double:
        """Hand parameters (F, 2, P) relative to REST at evenly spaced times, left then right.

        Monotone quintic pieces between the keys, then a short smoothing that rounds what is left of corners.
        """
        step = time[1] - time[0] if len(time) > 1 else 0.04
        radius = int(np.ceil(8 * 0.03 / step))
        wide = time[0] + step * np.arange(-radius, len(time) + radius)
        hands = np.empty((len(wide), 2, COUNT))
        for column in range(2):
            lag = 0.0 if column == self.dominant else self._lag_s
            hands[:, column] = _through_keys(
                np.array([t for t, _ in self._keys]), np.stack([k[column] for _, k in self._keys]), wide - lag
            )
        # The hand trails behind the wrist: it bends against the movement and swings out at the end of a stroke.
        for place, bend, share in ((UP, EXTEND, -0.1), (OUT, DEVIATE, 0.05)):
            speed = gaussian_smooth(np.gradient(hands[..., place], step, axis=0), 0.03 / step)
            hands[..., bend] += 0.35 * np.tanh(share / 0.35 * speed)
        return gaussian_smooth(hands, 0.03 / step)[radius:-radius]

    @staticmethod
    def _silent(start: float, end: float, speech: list[tuple[float, float]]) -> bool:
        return not any(a < end and b > start for a, b in speech)

    def _from_rest(self, now: float, ahead: list[Stress]) -> None:
        soon = [s for s in ahead if now + 0.55 < s.time_s < now + 1.5]
        if not soon:
            # Hands at rest are not fixed: now and then they settle a little differently.
            settle = 0.012 * self._random.normal(size=(2, COUNT)) * (1 + 2 * (self._random.uniform() < 0.15))
            settle[:, ROLL] *= 2.0
            self._keys.append((now + 0.6, 0.5 * self._keys[-1][1] + settle))
            return
        first = max(soon, key=lambda s: s.strength - 0.5 * (s.time_s - now))
        self._choose()
        self._add_stroke(now, first, preferred_s=0.5)
        self._resting = False

    def _next_stroke(self, now: float, ahead: list[Stress]) -> None:
        preferred = self._random.uniform(0.5, 0.85) / self.tempo
        near = [s for s in ahead if now + 0.45 / self.tempo < s.time_s < now + 1.6]
        if near and near[0].time_s < now + 1.6:
            best = max(near, key=lambda s: s.strength - 1.6 * abs(np.log((s.time_s - now) / preferred)))
            if self._left <= 0:
                self._choose()
            self._add_stroke(now, best, preferred_s=0.3)
            return
        # Nothing to stress yet: hold, sinking slightly.
        last = self._keys[-1][1]
        drift = 0.03 * self._random.normal(size=last.shape)
        self._keys.append((now + 0.4, 0.9 * last + drift))

    def _retract(self, now: float) -> None:
        last = self._keys[-1][1]
        distance = float(np.linalg.norm(last[:, :3], axis=-1).max())
        rest = 0.015 * self._random.normal(size=(2, COUNT))
        hold = self._random.uniform(0.1, 0.3)
        self._keys.append((now + hold, last * 0.97))
        self._keys.append((now + hold + max(0.75, _reach_time(distance, 12.0)), rest))
        self._resting, self._left = True, 0

    def _choose(self) -> None:
        """Take another shape; those used lately are unlikely."""
        share = self._taste.copy()
        for age, name in enumerate(reversed(self._recent[-4:])):
            share[[s.name for s in SHAPES].index(name)] *= (0.02, 0.25, 0.5, 0.7)[age]
        self._shape = SHAPES[int(self._random.choice(len(SHAPES), p=share / share.sum()))]
        self._recent = [*self._recent[-4:], self._shape.name]
        self._left = int(self._random.integers(1, self._shape.strokes + 1))
        self._done = 0
        lead = self.dominant if self._random.uniform() < 0.75 else 1 - self.dominant
        self._hands = (True, True) if self._shape.hands == 2 else (lead == 0, lead == 1)
        # Two hands are never quite mirror images.
        self._side = 1.0 + self._random.uniform(-0.18, 0.0, 2) * (np.arange(2) != self.dominant)

    def _add_stroke(self, now: float, stress: Stress, preferred_s: float) -> None:
        """Keys of preparation and stroke, so that the stroke ends on the stress and no reach is too fast."""
        end = stress.time_s - TAKEN_AHEAD_S
        size = self.amplitude * np.clip(0.92 + 0.16 * stress.strength, 0.7, 1.25) * self._random.uniform(0.88, 1.12)
        last = self._keys[-1][1]
        ready, goal = np.zeros_like(last), np.zeros_like(last)
        for column in range(2):
            if self._hands[column]:
                scale = size * self._side[column]
                wander = self._random.normal(size=COUNT) * 0.03
                place = _vector(self._shape.stroke) + self._done * _vector(self._shape.step) + wander
                goal[column] = _scaled(place, scale)
                lead_in = _scaled(_vector(self._shape.ready) + wander, scale)
                # A repeated beat swings from where the hand is, not from the first preparation.
                ready[column] = lead_in if self._done == 0 else 0.35 * lead_in + 0.65 * goal[column]
                if self._done:
                    ready[column, UP] = _soft(goal[column, UP] + size * self._random.uniform(0.2, 0.3), -0.1, 0.68)
            else:
                goal[column] = 0.55 * last[column] * (last[column, UP] > 0.15) + 0.12 * size * _vector(
                    {UP: 0.3, OUT: 0.2}
                )
                ready[column] = 0.5 * (goal[column] + last[column]) + _vector({UP: 0.03})
        total = end - now
        stroke_s = max(0.2, _reach_time(_distance(ready, goal), PEAK_ACCELERATION))
        prepare_s = max(preferred_s, _reach_time(_distance(last, ready), PEAK_ACCELERATION))
        if stroke_s + prepare_s > total:  # too little time: smaller, rather than faster
            shrink = (total / (stroke_s + prepare_s)) ** 2
            middle = last * (1 - shrink) + goal * shrink
            ready, goal = middle + (ready - goal) * shrink, middle
            stroke_s, prepare_s = (max(0.1, part * total / (stroke_s + prepare_s)) for part in (stroke_s, prepare_s))
        # Real hands are seldom still between strokes: spare time goes half to a slower preparation, half to a hold
        # that drifts.
        slack = max(0.0, total - stroke_s - prepare_s)
        prepare_s += min(0.5 * slack, 0.4)
        start = max(now, end - stroke_s - prepare_s)
        if start > now + 0.12:
            held = last + min(1.0, (start - now) / 0.5) * (
                0.15 * (ready - last) + 0.03 * self._random.normal(size=last.shape)
            )
            self._keys.append((start, held))
        self._keys.append((end - stroke_s, ready))
        self._keys.append((end, goal))
        self.strokes.append(Stroke(self._shape.name, end - stroke_s, end, self._hands))
        self._left -= 1
        self._done += 1


def _scaled(place: Double, scale: float) -> Double:
    """Positions grow with the size of the gesture, the form of the hand hardly."""
    factor = np.full(COUNT, 0.5 + 0.5 * scale)
    factor[[OUT, UP, FORWARD]] = scale
    scaled = place * factor
    scaled[OUT] = _soft(scaled[OUT], -0.2, 0.62)
    scaled[UP] = _soft(scaled[UP], -0.1, 0.68)
    scaled[FORWARD] = _soft(scaled[FORWARD], -0.1, 0.25)
    return scaled


def _soft(value: float, low: float, high: float) -> float:
    """Bent towards the limits from 0.1 before them on: keys within limits keep the way between them within."""
    if value > high - 0.1:
        return float(high - 0.1 + 0.1 * np.tanh((value - high + 0.1) / 0.1))
    if value < low + 0.1:
        return float(low + 0.1 - 0.1 * np.tanh((low + 0.1 - value) / 0.1))
    return value


def _distance(a: Double, b: Double) -> float:
    """Of the hand that moves more, sw; half a radian of roll counts as a fifth."""
    difference = a - b
    return float(np.hypot(np.linalg.norm(difference[:, :3], axis=-1), 0.4 * difference[:, ROLL]).max())


def _reach_time(distance: float, acceleration: float) -> float:
    """Seconds of a minimum-jerk reach that peaks at `acceleration`: a = 5.77 d / t² (Flash and Hogan 1985)."""
    return float(np.sqrt(5.77 * max(distance, 1e-6) / acceleration))


def _through_keys(times: Double, keys: Double, at: Double) -> Double:
    """Smooth way through keys (K, P) at `times` (K,), (F, P): quintic pieces, no overshoot.

    Velocity at a key is zero where a parameter turns back, else the harmonic mean of the slopes on both sides
    (Fritsch and Butland 1984); acceleration at the keys is zero.
    """
    span = np.diff(times)[:, None]
    slope = np.diff(keys, axis=0) / span
    same = slope[:-1] * slope[1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (
            3
            * (span[:-1] + span[1:])
            / ((2 * span[1:] + span[:-1]) / slope[:-1] + (span[1:] + 2 * span[:-1]) / slope[1:])
        )
    velocity = np.zeros_like(keys)
    velocity[1:-1] = np.where(same, mean, 0.0)
    piece = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    duration = span[piece]
    t = np.clip((at - times[piece])[:, None] / duration, 0.0, 1.0)
    move = keys[piece + 1] - keys[piece]
    v0, v1 = velocity[piece] * duration, velocity[piece + 1] * duration
    # Quintic Hermite with zero accelerations at both ends.
    return (
        keys[piece]
        + v0 * t
        + (10 * move - 6 * v0 - 4 * v1) * t**3
        + (-15 * move + 8 * v0 + 7 * v1) * t**4
        + (6 * move - 3 * v0 - 3 * v1) * t**5
    )


def hand_parameters(relative: Double) -> Double:
    """Relative parameters (F, 2, P) put on top of rest, the form of the hand within what a hand can do."""
    hands = REST + relative
    hands[..., LIFT] += 0.3 * relative[..., OUT] + 0.2 * relative[..., UP]  # the elbow goes along
    hands[..., CURL] = np.clip(hands[..., CURL], 0.05, 0.9)
    hands[..., SPREAD] = np.clip(hands[..., SPREAD], 0.0, 1.0)
    hands[..., EXTEND] = np.clip(hands[..., EXTEND], -0.7, 0.7)
    hands[..., DEVIATE] = np.clip(hands[..., DEVIATE], -0.3, 0.4)
    return hands
