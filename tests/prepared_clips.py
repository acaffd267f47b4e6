"""Small prepared clips without networks: a disc that moves, with plausible keypoints and sound."""

import numpy as np

from avatar.data.clips import Clip, make_clip
from avatar.data.shards import ShardWriter
from pose.keypoints import COUNT


def synthetic_clip(
    number=0, frames=25, size=(64, 64), sound=True, split="train", latent_channels=None, audio=None
) -> Clip:
    """`audio`: (V, L, D) of audio states, None for none. `latent_channels`: None for no latents."""
    random = np.random.default_rng(number)
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x = width * (0.5 + 0.2 * np.sin(2 * np.pi * np.arange(frames) / max(frames, 2) + number))
    inside = (columns - x[:, None, None]) ** 2 + (rows - height / 2) ** 2 < (height / 4) ** 2
    backdrop = np.broadcast_to((60 + 2 * rows + columns)[..., None], (frames, height, width, 3)) + random.uniform(
        0, 40, 3
    )
    pictures = np.where(inside[..., None], random.uniform(80, 250, 3), backdrop).clip(0, 255).astype(np.uint8)
    points = np.zeros((frames, COUNT, 2), np.float32)
    points[..., 0] = x[:, None]
    points[..., 1] = height / 2
    points += random.normal(0, height / 10, (COUNT, 2)).astype(np.float32)
    points[:, 5, 0], points[:, 6, 0] = x + width / 5, x - width / 5  # shoulders
    boxes = np.stack([np.stack([x + a - 6, x * 0 + 20 - a, x + a + 6, x * 0 + 32 - a], 1) for a in (0, 8, -8)], 1)
    arrays = {}
    if latent_channels is not None:
        arrays["latents"] = random.normal(size=(frames, latent_channels, height // 8, width // 8)).astype(np.float16)
    meta = {
        "key": f"synthetic{number:04d}", "source": f"disc{number}.mp4", "track": 0, "start_s": 0.0, "split": split,
    }  # fmt: skip
    if audio is not None:
        window, layers, width_of_state = audio
        meta["audio_window"] = window
        states = random.normal(size=(frames + 2 * window, layers, width_of_state))
        arrays["audio_states"] = states.astype(np.float16)
    before = 5
    waveform = random.uniform(-0.3, 0.3, (before + frames) * 640).astype(np.float32) if sound else None
    return make_clip(
        meta, pictures, (inside * 255).astype(np.uint8), waveform, before if sound else 0,
        crops=[np.full((3, 16, 16, 3), 90, np.uint8)] * frames,
        points=points, confidence=np.full((frames, COUNT), 0.9, np.float32),
        depth=np.zeros((frames, COUNT), np.float32), clarity=np.full((frames, 2), 2.0, np.float32),
        movement_box=np.array([x.min() - 8, 20, x.max() + 8, 50], np.float32), boxes=boxes.astype(np.float32),
        **arrays,
    )  # fmt: skip


def write_synthetic(folder, clips=4, max_bytes=1 << 30, **options):
    """A folder of synthetic clips, every fourth one for validation; returns the folder."""
    with ShardWriter(folder, max_bytes) as writer:
        for number in range(clips):
            writer.write(synthetic_clip(number, split="val" if number % 4 == 3 else "train", **options))
    return folder
