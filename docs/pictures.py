"""Draws the pictures of README.md and docs/prior.md from our own example: python docs/pictures.py

Everything is computed from examples/ by the product itself; nothing is retouched.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import skimage.data
from numpy.typing import NDArray

from infer.synthesis import Synthesis, to_uint8
from pose.draw import draw_over
from pose.images import load_image
from pose.keypoints import Keypoints
from pose.speech import open_speech

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PART_COLOURS = np.array(
    [[30, 30, 34], [90, 140, 200], [235, 160, 70], [220, 90, 70], [120, 200, 120], [70, 150, 80]], np.uint8
)


def label(tile: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A tile with white words in its lower left corner."""
    out = np.ascontiguousarray(tile)
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        place = (8, out.shape[0] - 10)
        cv2.putText(out, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
    return out


def grid(tiles: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Equal tiles in rows."""
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    return np.vstack(rows)


def on_checks(texture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A premultiplied layer (5, H, W) over a checkered ground."""
    rows, columns = np.indices(texture.shape[1:]) // 16
    ground = np.where((rows + columns) % 2, 0.8, 0.65)[..., None]
    colour, coverage = texture[:3].transpose(1, 2, 0), texture[3][..., None]
    return (np.clip(colour + (1 - coverage) * ground, 0, 1) * 255).astype(np.uint8)


def shares(vertices: NDArray[np.float32], weights: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Skin weights of a mesh as dots: blue trunk, orange upper arm, red forearm, green palm, white fingers."""
    colours = np.array([[90, 140, 200], [235, 160, 70], [220, 90, 70], [110, 200, 110]] + [[245, 245, 245]] * 15)
    out = np.full((*size, 3), 24, np.uint8)
    for (x, y), share in zip(vertices, weights, strict=True):
        cv2.circle(out, (round(float(x)), round(float(y))), 2, [int(c) for c in share @ colours], -1, cv2.LINE_AA)
    return out


def save(name: str, picture: NDArray[np.uint8]) -> None:
    imageio.imwrite(IMAGES / name, picture, quality=88)
    print(IMAGES / name)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    person = Synthesis(load_image(ROOT / "examples" / "presenter.png"), (512, 512), seed=0)
    speech = open_speech(ROOT / "examples" / "speech.wav")
    keypoints = Keypoints.concatenated(list(person.keypoints(person.speech_motion(speech))))

    # Two people, four moments each.
    portrait = Synthesis(skimage.data.astronaut(), (512, 512), seed=1)
    talking = Keypoints.concatenated(list(portrait.keypoints(portrait.speech_motion(speech))))
    tiles = []
    for who, points in ((person, keypoints), (portrait, talking)):
        moments = np.array([0, 28, 85, 145])
        for picture, k in zip(to_uint8(who.prior.render(points[moments]).frames), moments, strict=True):
            small = cv2.resize(picture, (320, 320), interpolation=cv2.INTER_AREA)
            tiles.append(label(small, "the photo" if k == 0 else f"{k / 25:.1f} s"))
    save("talking.jpg", grid(tiles, 4))

    # The moment with the largest hand movement shows most of what the warp does.
    travel = np.linalg.norm(keypoints.points[:, [9, 10]] - keypoints.points[:1, [9, 10]], axis=-1).sum(1)
    widest = int(travel.argmax())
    prior = person.prior.render(keypoints[slice(widest, widest + 1)])
    frame, confidence = to_uint8(prior.frames)[0], to_uint8(prior.confidence.expand(-1, 3, -1, -1))[0]
    save(
        "prior_confidence.jpg",
        grid(
            [
                label(draw_over(person.image, keypoints[:1]), "photo and its keypoints"),
                label(
                    draw_over(frame, keypoints[slice(widest, widest + 1)]), f"driving keypoints, {widest / 25:.1f} s"
                ),
                label(frame, "warped"),
                label(confidence, "confidence: white is sure"),
            ],
            2,
        ),
    )

    layers = person.prior.layers
    background = (np.clip(layers.background.transpose(1, 2, 0), 0, 1) * 255).astype(np.uint8)
    tiles = [label(background, "background, filled"), label(on_checks(layers.trunk.texture), layers.trunk.name)]
    tiles += [label(on_checks(layer.texture), layer.name) for layer in layers.front]
    save("prior_layers.jpg", grid(tiles, 3))

    weights = [label(PART_COLOURS[layers.parts.labels], "parts of the matte")]
    for side in ("left", "right"):
        meshes = [layer.mesh for layer in layers.front if layer.side == side and layer.mesh is not None]
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        bones = np.concatenate([mesh.weights for mesh in meshes])
        weights.append(label(shares(vertices, bones, person.work_size), f"skin weights, {side} arm"))
    save("prior_weights.jpg", grid(weights, 3))


if __name__ == "__main__":
    main()
