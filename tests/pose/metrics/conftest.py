"""The arrays on which the authors' functions were run: NumPy's PCG64 with seed 20250, drawn in this order.

The expected numbers in the tests beside this file came from the released code of each project (librosa 0.11, scipy
1.17, numpy 2.2) on these arrays. A change of the recipe makes all of them void.
"""

import numpy as np
import pytest

RATE = 16000


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    return recipe(20250)


def recipe(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def walk(frames, width, step, smooth):
        values = np.cumsum(random.normal(0, step, (frames, width)), 0)
        kernel = np.hanning(smooth + 2)[1:-1]
        kernel /= kernel.sum()
        return np.stack([np.convolve(values[:, d], kernel, mode="same") for d in range(width)], 1)

    def audio(seconds):
        sound = random.normal(0, 0.003, int(seconds * RATE))
        time, length = 0.3, int(0.08 * RATE)
        fade = np.exp(-np.arange(length) / (0.02 * RATE))
        while time < seconds - 0.2:
            start = int(time * RATE)
            tone = np.sin(2 * np.pi * random.uniform(150, 900) * np.arange(length) / RATE)
            sound[start : start + length] += 0.6 * fade * tone
            time += random.uniform(0.25, 0.9)
        return sound.astype(np.float32)

    def directions(bones):
        steps = random.normal(0, 1, (3, 34, bones, 3))
        values = np.cumsum(steps * 0.1, 1) + random.normal(0, 1, (3, 1, bones, 3))
        return values / np.linalg.norm(values, axis=-1, keepdims=True)

    made: dict[str, np.ndarray] = {"beat_pred": walk(900, 141, 1.5, 5)}
    made["beat_gt"] = made["beat_pred"] + random.normal(0, 1.2, (900, 141))
    made["beat_sem"] = random.choice([0, 0, 0, 0.1, 0.3, 0.5, 0.8], 900).astype(float)
    made["audio60"] = audio(60)
    made["pos"] = walk(600, 165, 0.01, 7)
    made["audio20"] = audio(20)
    made["mmae"] = random.uniform(0.1, 0.6, 55)
    made["lvd_p"], made["lvd_t"] = walk(120, 300, 0.001, 3), walk(120, 300, 0.001, 3)
    made["fA"] = random.normal(0, 1, (400, 32)) @ random.normal(0, 0.4, (32, 32))
    made["fB"] = 0.3 + random.normal(0, 1.2, (500, 32)) @ random.normal(0, 0.4, (32, 32))
    made["ted_unit"], made["exp_unit"] = directions(9), directions(42)
    made["audio_ted"] = np.stack([audio(36267 / 16000) for _ in range(3)])
    made["bs"] = np.clip(0.3 + walk(300, 32, 0.02, 5), 0, 1)
    made["audio5"] = audio(5.0)
    made["z1"] = np.concatenate([random.normal(m, 0.3, (80, 8)) for m in (-1, 0, 1, 2, 3)])
    made["z2"] = np.concatenate([random.normal(m, 0.35, (80, 8)) for m in (-1.2, 0.1, 1.1, 2.2, 2.7)])
    return made
