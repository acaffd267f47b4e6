"""Networks for the authors' weights: their sizes, their names, and that only fitting weights are taken."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pose.metrics.extractors import BlendshapeEncoder, ShowEncoder, WindowEncoder
from pose.metrics.skeleton_extractor import SkeletonEncoder


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("make", "prefix", "shape", "features"),
    [
        (WindowEncoder.ted, "pose_encoder.", (5, 34, 27), (5, 32)),
        (WindowEncoder.ted_expressive, "encoder.", (5, 34, 126), (5, 128)),
        (WindowEncoder.beat, "module.pose_encoder.", (5, 34, 141), (5, 300)),
        (lambda: WindowEncoder.diffsheg(51), "pose_encoder.", (5, 34, 51), (5, 300)),
        (lambda: WindowEncoder.diffsheg(129, 88), "pose_encoder.", (5, 88, 129), (5, 300)),
        (BlendshapeEncoder, "encoder.", (5, 120, 32), (5, 64)),
        (ShowEncoder, "encoder.", (2, 88, 129), (44, 64)),
        (SkeletonEncoder, "module.encoder.", (1, 100, 330), (6, 240)),
    ],
)
def test_weights_load_by_the_authors_names(tmp_path, make, prefix, shape, features):
    torch.manual_seed(0)
    source, target = make(), make()
    windows = np.random.default_rng(0).normal(size=shape)
    with pytest.raises(ValueError, match="no weights"):
        target.features(windows)
    tensors = {prefix + name: value.clone() for name, value in source.state_dict().items()}
    path = tmp_path / "ae.safetensors"
    save_file({**tensors, "decoder.net.weight": torch.zeros(3)}, path)
    target.load(path)
    assert target.name.startswith("ae ") and target.features(windows).shape == features
    nested = tmp_path / "ae.bin"
    torch.save({"model_state": tensors, "epoch": 3}, nested)
    again = make()
    again.load(nested)
    np.testing.assert_array_equal(again.features(windows), target.features(windows))
    assert again.name == target.name


def test_a_checkpoint_with_the_options_of_its_training_loads(tmp_path):
    """Trimodal's and DiffGesture's: {"args": Namespace, "epoch": int, "pose_dim": int, "gen_dict": tensors}."""
    source = WindowEncoder.ted()
    tensors = {"pose_encoder." + n: v for n, v in source.state_dict().items()} | {"decoder.net.0.bias": torch.ones(2)}
    content = {"args": Namespace(lr=1e-3, name="ae", betas=[0.5, 0.9]), "epoch": 3, "gen_dict": tensors}
    torch.save(content, tmp_path / "gesture_autoencoder_checkpoint_best.bin")
    encoder = WindowEncoder.ted()
    encoder.load(tmp_path / "gesture_autoencoder_checkpoint_best.bin")
    assert encoder.name.startswith("gesture_autoencoder_checkpoint_best ")
    torch.testing.assert_close(encoder.fc_mu.weight, source.fc_mu.weight)


def test_sizes_are_the_published_ones():
    assert parameters(WindowEncoder.beat()) == 8_058_000
    skeleton = SkeletonEncoder()
    assert parameters(skeleton) == 2_492_580
    edges = [
        layer[0].residual[0].mask.shape[0] // channels
        for layer, channels in zip(skeleton.layers, (6, 6, 12, 12), strict=True)
    ]
    assert edges == [55, 35, 20, 20]


def test_the_unreleased_wide_encoder_fits_its_window():
    with torch.device("meta"):  # 80 million weights, of which only the shapes matter
        assert WindowEncoder.adaptive()(torch.zeros(2, 150, 141)).shape == (2, 300)


def test_slope_one_makes_the_head_linear():
    torch.manual_seed(0)
    encoder = WindowEncoder.ted().eval()
    slopes = [layer.negative_slope for layer in encoder.out_net if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [1.0, 1.0]
    a, b = torch.randn(2, 4, 384)
    head = encoder.out_net
    torch.testing.assert_close(head(a) + head(b), head(a + b) + head(torch.zeros_like(a)), rtol=1e-3, atol=1e-4)
    with torch.device("meta"):
        wide = WindowEncoder.adaptive()
    assert {layer.negative_slope for layer in wide.out_net if isinstance(layer, nn.LeakyReLU)} == {0.01}


def test_batch_statistics_make_a_window_depend_on_its_file(tmp_path):
    torch.manual_seed(0)
    source = WindowEncoder.beat()
    save_file({"pose_encoder." + n: v.clone() for n, v in source.state_dict().items()}, tmp_path / "ae.safetensors")
    windows = np.random.default_rng(0).normal(size=(8, 34, 141))
    released, plain = WindowEncoder.beat(), WindowEncoder.beat(batch_statistics=False)
    for encoder in (released, plain):
        encoder.load(tmp_path / "ae.safetensors")
    np.testing.assert_allclose(plain.features(windows)[:4], plain.features(windows[:4]), atol=1e-5)
    assert np.abs(released.features(windows)[:4] - released.features(windows[:4])).max() > 1e-3
    np.testing.assert_array_equal(released.features(windows), released.features(windows))
    with pytest.raises(ValueError, match="at least 2 windows"):
        released.features(windows[:1])


def test_weights_that_do_not_fit_are_refused(tmp_path):
    class Dangerous:
        def __reduce__(self):
            return (print, ("this must never run",))

    tensors = {"pose_encoder." + n: v.clone() for n, v in WindowEncoder.ted().state_dict().items()}
    torch.save({"gen_dict": tensors, "args": Dangerous()}, tmp_path / "object.bin")
    with pytest.raises(ValueError, match="refused"):
        WindowEncoder.ted().load(tmp_path / "object.bin")
    with pytest.raises(ValueError, match="does not exist"):
        WindowEncoder.ted().load(tmp_path / "nothing.bin")
    save_file(tensors, tmp_path / "ted.safetensors")
    with pytest.raises(ValueError, match="of another network"):
        WindowEncoder.ted_expressive().load(tmp_path / "ted.safetensors")
    del tensors["pose_encoder.fc_mu.weight"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match="lacks fc_mu.weight"):
        WindowEncoder.ted().load(tmp_path / "less.safetensors")
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no tensors named"):
        WindowEncoder.ted().load(tmp_path / "other.safetensors")
    (tmp_path / "broken.bin").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="refused"):
        WindowEncoder.ted().load(tmp_path / "broken.bin")
