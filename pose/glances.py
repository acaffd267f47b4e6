"""Head, eyes and brows of a speaker: nods and brow raises on stress, glances, blinks.

Letters: F frames. Angles are radians: yaw turns to the person's left, pitch looks down, roll leans to the left
shoulder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.idle import smooth_noise, smoothstep
from pose.stress import Stress, gaussian_smooth

Double = NDArray[np.float64]

EYE_RANGE = (0.55, 0.45)  # radians of yaw and pitch at which the look coefficients reach 1


@dataclass(frozen=True)
class Pulse:
    """A change that comes and goes: rises over `rise_s` to `size` at `peak_s`, stays `hold_s`, falls over `fall_s`."""

    peak_s: float
    size: float
    rise_s: float
    hold_s: float
    fall_s: float

    def at(self, time: Double) -> Double:
        rise = smoothstep((time - self.peak_s + self.rise_s) / self.rise_s)
        return self.size * rise * (1.0 - smoothstep((time - self.peak_s - self.hold_s) / self.fall_s))

    @property
    def end_s(self) -> float:
        return self.peak_s + self.hold_s + self.fall_s


@dataclass(frozen=True)
class Glance:
    """From `start_s` on the eyes look at (yaw, pitch) of the room; the camera is (0, 0)."""

    start_s: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Face:
    """What `GlancePlanner.evaluate` gives: `head` (F, 3) yaw, pitch, roll; `eyes` (F, 2) yaw and pitch in the head;
    `blink`, `brows`, `brow_inner` (F,) in [0, 1]."""

    head: Double
    eyes: Double
    blink: Double
    brows: Double
    brow_inner: Double


class GlancePlanner:
    """Plans the events of one speaker's head and face in order of time, from stresses and pauses ahead."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = np.random.default_rng([seed, 11])
        draw = self._random.uniform
        self._blink_gap_s = draw(3.3, 5.2)
        self._nod_size = draw(0.05, 0.095)
        self._brow_size = draw(0.22, 0.42)
        self._tilt_side = 1.0 if draw() < 0.5 else -1.0
        self._sway = draw(0.8, 1.25)
        self._planned_s = 0.0
        self._next_blink_s = draw(0.8, 2.5)
        self._next_glance_s = draw(1.5, 4.0)
        self._last_nod_s = self._last_brow_s = -10.0
        self._blinks: list[Pulse] = []
        self._nods: list[Pulse] = []
        self._brows: list[Pulse] = []
        self._tilts: list[Pulse] = []
        self._glances: list[Glance] = [Glance(-10.0, 0.0, 0.0)]

    def extend(self, until_s: float, stresses: list[Stress], speech: list[tuple[float, float]]) -> None:
        """Plan events that begin before `until_s`."""
        start, self._planned_s = self._planned_s, until_s
        for stress in stresses:
            if start <= stress.time_s < until_s:
                self._accent(stress)
        for _, end in speech:  # a phrase has ended: often a blink, sometimes a small nod
            if start <= end < until_s:
                if self._random.uniform() < 0.4:
                    self._next_blink_s = min(self._next_blink_s, max(end + self._random.uniform(0.02, 0.25), start))
                if self._random.uniform() < 0.35:
                    self._nods.append(Pulse(end + 0.1, 0.6 * self._nod_size, 0.28, 0.05, 0.5))
        for begin, _ in speech:  # speakers look away as they begin and at the listener as they go on
            if start <= begin < until_s and self._random.uniform() < 0.4:
                self._next_glance_s = min(self._next_glance_s, max(begin - 0.1, start))
        while self._next_glance_s < until_s:
            self._glance(self._next_glance_s)
        while self._next_blink_s < until_s:
            self._blink(self._next_blink_s)
        for events in (self._blinks, self._nods, self._brows, self._tilts):
            events[:] = [event for event in events if event.end_s > start - 3.0]
        while len(self._glances) > 2 and self._glances[1].start_s < start - 3.0:
            self._glances.pop(0)

    def _accent(self, stress: Stress) -> None:
        random, time = self._random, stress.time_s
        drawn = random.uniform(size=3)
        if stress.strength > 0.1 and time - self._last_nod_s > 0.45 and drawn[0] < 0.35 + 0.4 * stress.strength:
            size = self._nod_size * np.clip(0.6 + 0.5 * stress.strength, 0.5, 1.3) * random.uniform(0.6, 1.3)
            self._nods.append(Pulse(time + 0.04, size, random.uniform(0.17, 0.24), 0.0, random.uniform(0.3, 0.5)))
            self._last_nod_s = time
        if stress.strength > 0.35 and time - self._last_brow_s > 1.0 and drawn[1] < 0.3 + 0.3 * stress.strength:
            size = self._brow_size * random.uniform(0.6, 1.25)
            hold = random.uniform(0.05, 0.5)
            self._brows.append(Pulse(time - 0.02, size, random.uniform(0.14, 0.22), hold, random.uniform(0.3, 0.6)))
            self._last_brow_s = time
        if stress.strength > 0.2 and drawn[2] < 0.12:
            side = self._tilt_side * (1.0 if random.uniform() < 0.65 else -1.0)
            self._tilts.append(Pulse(time, side * random.uniform(0.03, 0.07), 0.45, random.uniform(0.3, 1.2), 0.8))

    def _blink(self, time: float) -> None:
        """130 to 260 ms long; the next one after a gap that is never short and has no fixed length."""
        random = self._random
        slow = random.uniform(0.85, 1.25)
        self._blinks.append(Pulse(time + 0.08 * slow, random.uniform(0.9, 1.0), 0.08 * slow, 0.03, 0.14 * slow))
        self._next_blink_s = time + 0.7 + random.gamma(2.0, (self._blink_gap_s - 0.7) / 2.0)
        if random.uniform() < 0.06:
            self._next_blink_s = time + random.uniform(0.32, 0.45)  # a double blink

    def _glance(self, time: float) -> None:
        """Away from the camera for a moment, then back; large ones bring a blink."""
        random = self._random
        if self._glances[-1].yaw == 0.0 and self._glances[-1].pitch == 0.0:
            yaw = random.choice([-1.0, 1.0]) * random.uniform(0.08, 0.3)
            pitch = random.uniform(-0.08, 0.16)
            self._glances.append(Glance(time, yaw, pitch))
            self._next_glance_s = time + random.uniform(0.35, 1.3)
            if abs(yaw) > 0.2 and random.uniform() < 0.4:
                self._next_blink_s = min(self._next_blink_s, time)
        else:
            self._glances.append(Glance(time, 0.0, 0.0))
            self._next_glance_s = time + 1.0 + random.gamma(2.0, 1.7)

    def evaluate(self, time: Double, melody: Double, energy: Double) -> Face:
        """The events at evenly spaced times; `melody` (F,) from `pitch_contour`, `energy` (F,) smoothed loudness."""
        seed = self._seed
        gaze, turn = np.zeros((len(time), 2)), np.zeros((len(time), 2))
        for before, glance in zip(self._glances, self._glances[1:], strict=False):
            change = np.array([glance.yaw - before.yaw, glance.pitch - before.pitch])
            size = float(np.hypot(*change))
            gaze += smoothstep((time - glance.start_s) / (0.04 + 0.1 * size))[:, None] * change  # a saccade
            turn += smoothstep((time - glance.start_s - 0.03) / 0.45)[:, None] * change  # the head follows a part
        first = np.array([self._glances[0].yaw, self._glances[0].pitch])
        gaze, turn = gaze + first, turn + first

        wander = [smooth_noise(seed, 20 + axis, time, period) for axis, period in enumerate((3.4, 2.7, 3.0))]
        quiver = [smooth_noise(seed, 30 + axis, time, period) for axis, period in enumerate((1.1, 0.9, 1.2))]
        nod = np.asarray(sum((pulse.at(time) for pulse in self._nods), np.zeros_like(time)))
        tilt = np.asarray(sum((pulse.at(time) for pulse in self._tilts), np.zeros_like(time)))
        lively = 0.5 + np.clip(energy, 0.0, 1.0)  # speakers move their heads more than listeners
        moves = [self._sway * lively * (wide * w + small * q) for wide, small, w, q in zip(
            (0.05, 0.03, 0.028), (0.02, 0.018, 0.014), wander, quiver, strict=True)]  # fmt: skip
        head = np.stack(
            [
                moves[0] + 0.35 * turn[:, 0],
                moves[1] + 0.3 * turn[:, 1] + nod - 0.008 * melody,
                moves[2] + tilt,
            ],
            -1,
        )
        # The eyes undo the head's movement, so that the gaze stays where it is.
        eyes = gaze - head[:, :2] + 0.008 * np.stack([smooth_noise(seed, 40 + i, time, 0.9) for i in (0, 1)], -1)
        blink = np.asarray(sum((pulse.at(time) for pulse in self._blinks), np.zeros_like(time)))
        brows = np.asarray(sum((pulse.at(time) for pulse in self._brows), np.zeros_like(time)))
        idle_brow = 0.03 + 0.04 * np.clip(smooth_noise(seed, 50, time, 4.0), -0.7, 2.0)
        rising = 0.02 * np.clip(melody, -1.0, 5.0)
        return Face(
            head,
            eyes,
            np.clip(blink, 0.0, 1.0),
            np.clip(brows + idle_brow + rising, 0.0, 0.8),
            np.clip(0.55 * brows + 0.7 * idle_brow, 0.0, 0.8),
        )


def pitch_contour(blocks: dict[str, NDArray[np.float32]], fps: float) -> Double:
    """The melody of the voice, semitones over its median, (F,): voiced frames over about 0.2 s, 0 in pauses."""
    voiced = blocks["voicing"][:, 0].astype(np.float64)
    weight = gaussian_smooth(voiced, 0.12 * fps)
    return gaussian_smooth(voiced * blocks["pitch"][:, 0], 0.12 * fps) / (weight + 0.15)
