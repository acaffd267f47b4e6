"""Networks by path: ONNX, TorchScript and safetensors files made here, small and random, in the real formats."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from avatar.metrics.identity import SIDE, FaceEmbedding, aligned_face, csim
from avatar.metrics.networks import Network
from avatar.metrics.perceptual import CLIP_FRAMES, LPIPS, AlexNetFeatures, ClipFeatures, ImageFeatures
from pose.metrics.frechet import frechet_distance

RNG = np.random.default_rng(5)


def field(number: int, payload: bytes | int) -> bytes:
    """One field of a protobuf message."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def onnx_mean(path):
    """An ONNX file with one node: the mean over height and width, (B, 3, H, W) -> (B, 3, 1, 1)."""
    sides = [field(2, b"batch"), field(1, 3), field(2, b"height"), field(2, b"width")]

    def tensor(name: bytes, dims: list[bytes]) -> bytes:
        shape = b"".join(field(1, dim) for dim in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, b"in") + field(2, b"out") + field(4, b"GlobalAveragePool")
    last = [field(2, b"batch"), field(1, 3), field(1, 1), field(1, 1)]
    graph = field(1, node) + field(2, b"mean") + field(11, tensor(b"in", sides)) + field(12, tensor(b"out", last))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13)))
    return path


class Detector(nn.Module):
    """Has the arguments of the published detectors; `return_features` must be set, or it answers zeros."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = x.flatten(2).mean(dim=2)
        return means if return_features else torch.zeros_like(means)


def torchscript(path, module):
    torch.jit.script(module).save(str(path))
    return path


def test_onnx_file_runs(tmp_path):
    images = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    network = Network(onnx_mean(tmp_path / "mean.onnx"), "CSIM")
    assert network(images).reshape(2, 3) == pytest.approx(images.mean(axis=(2, 3)), abs=1e-6)
    assert network.name.startswith("mean#") and len(network.name) == len("mean#") + 8


def test_onnx_runs_in_opencv_too(tmp_path):
    from avatar.metrics.networks import _opencv

    images = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    answer = _opencv(onnx_mean(tmp_path / "mean.onnx"))(images)
    assert answer.reshape(3) == pytest.approx(images.mean(axis=(0, 2, 3)), abs=1e-6)


def test_features_of_torchscript_detectors(tmp_path):
    path = torchscript(tmp_path / "detector.pt", Detector())
    video = RNG.integers(0, 255, (2 * CLIP_FRAMES + 3, 40, 30, 3)).astype(np.uint8)
    assert ImageFeatures(path)(video[:3]) == pytest.approx(video[:3].mean(axis=(1, 2)), abs=2)
    clips = ClipFeatures(path)(video)
    assert clips.shape == (2, 3) and clips[0] == pytest.approx(video[:CLIP_FRAMES].mean(axis=(0, 1, 2)), abs=2)
    with pytest.raises(ValueError, match="16 frames"):
        ClipFeatures(path)(video[:5])


def test_lpips_by_safetensors_and_torchscript_agree(tmp_path):
    torch.manual_seed(0)
    model = AlexNetFeatures()
    save_file(model.state_dict(), tmp_path / "lpips.safetensors")
    first = RNG.integers(0, 255, (2, 64, 80, 3)).astype(np.uint8)
    second = 255 - first
    measure = LPIPS(tmp_path / "lpips.safetensors")
    distance = measure(first, second)
    assert distance.shape == (2,) and (distance > 0).all() and measure(first, first) == pytest.approx(0)
    traced = torch.jit.trace(model, (torch.zeros(2, 3, 64, 80),) * 2)
    traced.save(str(tmp_path / "lpips.pt"))
    assert LPIPS(tmp_path / "lpips.pt")(first, second) == pytest.approx(distance, rel=1e-4)
    with pytest.raises(ValueError, match="64"):
        measure(first[:, :32], second[:, :32])


def test_files_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        LPIPS(tmp_path / "none.safetensors")
    pickle = tmp_path / "alex.pth"
    torch.save({}, pickle)
    with pytest.raises(ValueError, match="pickles are never loaded"):
        LPIPS(pickle)
    with pytest.raises(ValueError, match="TorchScript"):
        Network(pickle.rename(tmp_path / "alex.pt"), "FID")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a safetensors"):
        LPIPS(tmp_path / "broken.safetensors")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="missing, unknown"):
        LPIPS(tmp_path / "other.safetensors")
    (tmp_path / "broken.onnx").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot be loaded"):
        Network(tmp_path / "broken.onnx", "CSIM")
    with pytest.raises(ValueError, match="refuses"):
        Network(onnx_mean(tmp_path / "mean.onnx"), "CSIM")(np.zeros((1, 4), np.float32))


def test_frechet_distance_is_torchmetrics():
    image = pytest.importorskip("torchmetrics.image.fid")

    class Mean(nn.Module):
        num_features = 3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.double().flatten(2).mean(dim=2)

    fid = image.FrechetInceptionDistance(feature=Mean(), normalize=False)
    videos = [RNG.integers(0, high, (20, 3, 8, 8)) for high in (255, 200)]
    for real, video in zip((True, False), videos, strict=True):
        fid.update(torch.from_numpy(video.astype(np.uint8)), real=real)
    ours = frechet_distance(*(video.mean(axis=(2, 3)) for video in videos))
    assert ours == pytest.approx(float(fid.compute()), rel=1e-3)


def test_aligned_face_puts_the_five_points_where_arcface_wants_them():
    from avatar.metrics.identity import FIVE_POINTS, TEMPLATE

    angle, scale = 0.4, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face = np.zeros((478, 2), np.float32)
    face[list(FIVE_POINTS)] = TEMPLATE @ turn.T + (140, 60)
    image = np.zeros((400, 400, 3), np.uint8)
    for x, y in face[list(FIVE_POINTS)]:
        image[round(float(y)) - 2 : round(float(y)) + 3, round(float(x)) - 2 : round(float(x)) + 3] = 255
    crop = aligned_face(image, face)
    assert crop.shape == (SIDE, SIDE, 3)
    for x, y in TEMPLATE:
        assert crop[round(y), round(x)].min() > 200
    with pytest.raises(ValueError, match="one place"):
        aligned_face(image, np.zeros((478, 2), np.float32))


def test_csim_with_and_without_a_network(tmp_path):
    faces = RNG.integers(0, 255, (3, SIDE, SIDE, 3)).astype(np.uint8)
    for path in (None, onnx_mean(tmp_path / "arcface.onnx")):
        embed = FaceEmbedding(path)
        vectors = embed(faces)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert csim(vectors, vectors[0])[0] == pytest.approx(1, abs=1e-6)
    assert FaceEmbedding().name == "pixels"
    brighter = FaceEmbedding()((faces[:1] // 2 + 40).astype(np.uint8))
    assert csim(brighter, FaceEmbedding()(faces[:1])[0])[0] > 0.99
    with pytest.raises(ValueError, match="aligned_face"):
        FaceEmbedding()(faces[:, :50])
