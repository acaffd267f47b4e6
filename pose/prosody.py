"""Motion of a speaker from speech alone: gestures, head, face, breathing. No learned part.

Letters: F frames, J = 75 joints of the home skeleton.

`ProsodyMotion.stream` takes the features of `pose.speech` and gives `Motion` in chunks of a second. It looks six
seconds ahead and remembers two; memory does not grow, and the result does not depend on how the features come cut.
Frame 0 is the rest pose with a neutral face, for every seed: forearms raised before the belly, hands relaxed. All
gestures are excursions from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pose.arms import FORWARD, OUT, ROLL, UP, ArmPoser
from pose.gestures import GesturePlanner, hand_parameters
from pose.glances import EYE_RANGE, Face, GlancePlanner, pitch_contour
from pose.idle import breathing, smooth_noise, smoothstep
from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.phone_lips import phone_mouth
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import HOME_HEIGHT, Skeleton
from pose.speech import SpeechFeatures
from pose.stress import find_stresses, gaussian_smooth
from pose.visemes import mouth as spectrum_mouth
from pose.visemes import set_both_sides

Array = NDArray[np.float32]
Double = NDArray[np.float64]

STEP_S = 1.0  # made at a time
BEHIND_S = 2.0
AHEAD_S = 6.0
START_S = 0.6  # idle movement fades in over this time, so that frame 0 is the rest pose


class ProsodyMotion:
    """A speaker. `seed` decides handedness, size, tempo and taste of gestures, blinks, glances and the face at rest.

    `liveliness` scales gestures and expression, 0 to 1.5; 1 is a speaker who uses the hands.
    """

    def __init__(self, seed: int = 0, fps: float = 25.0, liveliness: float = 1.0) -> None:
        if not 10.0 <= fps <= 120.0:
            raise ValueError(f"fps must be between 10 and 120 for motion, got {fps}; resample the motion afterwards")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        if not 0.0 <= liveliness <= 1.5:
            raise ValueError(f"liveliness must be between 0 and 1.5, got {liveliness}")
        self.seed, self.fps, self.liveliness = int(seed), float(fps), float(liveliness)
        self.skeleton = Skeleton.home()
        self._poser = ArmPoser(self.skeleton)
        random = np.random.default_rng([self.seed, 3])
        self._smile = random.uniform(0.03, 0.16)
        self._smile_side = random.uniform(-0.25, 0.25)
        self._articulation = random.uniform(0.92, 1.1)

    def stream(self, features: Iterable[SpeechFeatures]) -> Iterator[Motion]:
        """Motion of the same number of frames as the features, a second at a time."""
        step = max(1, round(STEP_S * self.fps))
        behind, ahead = round(BEHIND_S * self.fps), round(AHEAD_S * self.fps)
        gestures, glances = GesturePlanner(self.seed), GlancePlanner(self.seed)
        for first, window, count in _windows(features, self.fps, step, behind, ahead):
            stresses = find_stresses(window, self.fps, first - behind)
            speech = _stretches(window["speech"][:, 0], self.fps, first - behind)
            time = (first + np.arange(step)) / self.fps
            end_s = (first + step) / self.fps
            gestures.extend(end_s, stresses, speech)
            glances.extend(end_s + 0.5, stresses, speech)
            inside = slice(behind, behind + step)
            contour = pitch_contour(window, self.fps)[inside]
            mouth = phone_mouth if "phones" in window else spectrum_mouth
            lips = {name: v[inside] for name, v in mouth(window, self.fps, self._articulation).items()}
            energy = gaussian_smooth(window["energy"][:, 0].astype(np.float64), 0.35 * self.fps)[inside]
            face = glances.evaluate(time, contour, energy)
            motion = Motion(
                self.fps,
                self.skeleton,
                self._body(time, gestures, face, energy),
                self._root(time),
                self._expression(time, face, lips, energy),
            )
            yield motion[:count]

    def _body(self, time: Double, gestures: GesturePlanner, face: Face, energy: Double) -> Array:
        """Local rotations (F, J, 3, 3)."""
        seed = self.seed
        begin = smoothstep(time / START_S)
        rotations = self.skeleton.rest_rotations(len(time))

        # 1. Hands: the plan, and a little life that grows while speaking.
        margin = round(0.75 * self.fps)
        wide = time[0] + np.arange(-margin, len(time) + margin) / self.fps
        planned = self.liveliness * gestures.evaluate(wide) * smoothstep(wide / (0.5 * START_S))[:, None, None]
        slow = gaussian_smooth(planned, 0.22 * self.fps)[margin:-margin] * begin[:, None, None]
        hands = planned[margin:-margin].copy()
        life = begin * (0.35 + 1.1 * np.clip(energy, 0.0, 1.0))
        for column in range(2):
            for parameter, size, period in (
                (OUT, 0.012, 2.3),
                (UP, 0.014, 2.0),
                (FORWARD, 0.008, 2.9),
                (ROLL, 0.03, 2.6),
            ):
                channel = 100 + 20 * column + parameter
                hands[:, column, parameter] += size * life * smooth_noise(seed, channel, time, period)
            for parameter, size in ((4, 0.025), (5, 0.015), (6, 0.025), (7, 0.03)):
                channel = 100 + 20 * column + parameter
                hands[:, column, parameter] += size * life * smooth_noise(seed, channel, time, 1.7)
        breath = breathing(seed, time) - breathing(seed, np.zeros(1))[0]
        shrug = 0.012 * (begin * breath)[:, None] + 0.10 * np.clip(slow[:, :, UP], 0.0, 1.0)
        self._poser.pose(rotations, hand_parameters(hands), shrug)

        # 2. Trunk: weight shifts, breath, and a turn with the hands.
        lean = slow[:, 0, OUT] - slow[:, 1, OUT]
        forward = slow[:, :, FORWARD].mean(1) + 0.15 * slow[:, :, UP].mean(1)
        trunk = np.stack(
            [
                begin * (0.008 * smooth_noise(seed, 60, time, 6.1) - 0.006 * breath) + 0.06 * forward,
                begin * 0.016 * smooth_noise(seed, 61, time, 7.3) + 0.05 * lean,
                begin * 0.011 * smooth_noise(seed, 62, time, 8.9) - 0.03 * lean,
            ],
            -1,
        )
        for joint, part in (("Spine", 0.2), ("Spine1", 0.3), ("Spine2", 0.3), ("Spine3", 0.2)):
            rotations[:, self.skeleton.index(joint)] = axis_angle_to_matrix(part * trunk)

        # 3. Head: on top of the trunk, half of whose turn it undoes.
        yaw, pitch, roll = (begin * face.head[:, axis] for axis in range(3))
        head = np.stack([pitch - 0.6 * trunk[:, 0], yaw - 0.5 * trunk[:, 1], -roll - 0.6 * trunk[:, 2]], -1)
        for joint, part in (("Neck", 0.3), ("Neck1", 0.3), ("Head", 0.4)):
            rotations[:, self.skeleton.index(joint)] = axis_angle_to_matrix(part * head)
        return rotations

    def _root(self, time: Double) -> Array:
        """Position of the hips (F, 3), cm: the weight goes slowly from one leg to the other."""
        begin = smoothstep(time / (2.0 * START_S))
        x = begin * 0.9 * smooth_noise(self.seed, 70, time, 8.0)
        z = begin * 0.4 * smooth_noise(self.seed, 71, time, 7.0)
        y = HOME_HEIGHT - 0.06 * x**2
        return np.stack([x, y, z], -1).astype(np.float32)

    def _expression(self, time: Double, face: Face, lips: dict[str, Double], energy: Double) -> Array:
        """ARKit coefficients (F, 51)."""
        values = np.zeros((len(time), len(EXPRESSION_NAMES)))
        begin = smoothstep(time / START_S)
        for name, lip in lips.items():
            set_both_sides(values, name, lip * smoothstep((time + 0.04) / 0.16))
        mood = 1.0 + 0.5 * smooth_noise(self.seed, 80, time, 9.0)
        smile = begin * self._smile * np.clip(mood, 0.2, 2.0) * (1.0 - 0.4 * np.clip(energy, 0.0, 1.0))
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            values[:, expression_index("mouthSmile" + side)] += smile * (1.0 + sign * self._smile_side)
            values[:, expression_index("cheekSquint" + side)] += 0.4 * smile
            values[:, expression_index("browOuterUp" + side)] += begin * face.brows * (1.0 + 0.1 * sign)
            values[:, expression_index("eyeWide" + side)] += begin * 0.35 * np.clip(face.brows - 0.1, 0.0, 1.0)
            frown = np.clip(smooth_noise(self.seed, 81, time, 5.0) - 0.8, 0.0, 1.0)
            values[:, expression_index("browDown" + side)] += begin * 0.12 * frown * np.clip(energy, 0.0, 1.0)
            values[:, expression_index("eyeBlink" + side)] += begin * face.blink
        values[:, expression_index("browInnerUp")] += begin * face.brow_inner
        yaw, pitch = begin * face.eyes[:, 0] / EYE_RANGE[0], begin * face.eyes[:, 1] / EYE_RANGE[1]
        # The lids follow the eyes down.
        set_both_sides(values, "eyeBlink", 0.2 * np.clip(pitch, 0.0, 1.0))
        set_both_sides(values, "eyeLookDown", np.clip(pitch, 0.0, 1.0))
        set_both_sides(values, "eyeLookUp", np.clip(-pitch, 0.0, 1.0))
        for name, value in (("OutLeft", yaw), ("InRight", yaw), ("InLeft", -yaw), ("OutRight", -yaw)):
            values[:, expression_index("eyeLook" + name)] += np.clip(value, 0.0, 1.0)
        for name, size, period in (("jawLeft", 0.012, 1.9), ("jawRight", 0.012, 2.3)):
            values[:, expression_index(name)] += (
                begin * energy * size * np.clip(smooth_noise(self.seed, 82, time, period), 0.0, 2.0)
            )
        return np.clip(values, 0.0, 1.0).astype(np.float32)


def prosody_motion(features: SpeechFeatures, seed: int = 0, liveliness: float = 1.0) -> Motion:
    """The whole motion of a recording whose features are held in memory."""
    parts = list(ProsodyMotion(seed, features.fps, liveliness).stream([features]))
    if not parts:
        raise ValueError("the features hold no frames; pass a recording with sound")
    return Motion.concatenated(parts)


def _windows(
    features: Iterable[SpeechFeatures], fps: float, step: int, behind: int, ahead: int
) -> Iterator[tuple[int, dict[str, Array], int]]:
    """Cut a stream of features into steps: (first frame, window from `behind` before to `ahead` after, frames of it).

    Beyond the ends of the recording there is silence. The last step may hold fewer frames than `step`.
    """
    held: dict[str, Array] = {}
    first, start, known = 0, -behind, 0  # held covers frames start ... start + its length
    waiting = iter(features)
    ended = False
    while True:
        while known < first + step + ahead and not ended:
            part = next(waiting, None)
            if part is None:
                ended = True
                break
            if part.fps != fps:
                raise ValueError(f"features have {part.fps} frames a second, the motion {fps}; make them agree")
            if not held:
                held = {name: _silence(block, behind) for name, block in part.blocks.items()}
            held = {name: np.concatenate([held[name], block]) for name, block in part.blocks.items()}
            known += len(part)
        if first >= known:
            return
        low = first - behind - start
        window = {name: block[low : low + behind + step + ahead] for name, block in held.items()}
        missing = behind + step + ahead - len(next(iter(window.values())))
        if missing:
            window = {name: np.concatenate([block, _silence(block, missing)]) for name, block in window.items()}
        yield first, window, min(step, known - first)
        first += step
        drop = max(0, first - behind - start)
        held = {name: block[drop:].copy() for name, block in held.items()}
        start += drop


def _silence(like: Array, frames: int) -> Array:
    """Frames of a block in which nobody speaks."""
    value = -60.0 if like.shape[1] == 64 else 0.0  # the mel spectrum is in dB
    return np.full((frames, like.shape[1]), value, np.float32)


def _stretches(speech: Array, fps: float, first_frame: int) -> list[tuple[float, float]]:
    """Start and end, seconds, of the stretches in which somebody speaks; pauses under 0.25 s do not part them."""
    speaking = np.concatenate([[False], speech > 0.5, [False]])
    edges = np.flatnonzero(np.diff(speaking.astype(np.int8)))
    stretches: list[tuple[float, float]] = []
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        start, end = (first_frame + a) / fps, (first_frame + b) / fps
        if stretches and start - stretches[-1][1] < 0.25:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((start, end))
    return stretches
