"""The gesture networks: published sizes, shapes, what depends on what, saving, ablations, gradients."""

import pytest
import torch

from pose.losses import codec_losses, denoising_loss, speed_loss
from pose.models.diff_gesture import DiffGesture
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.fine_gesture import FineGesture
from pose.models.holistic import HolisticDiffusion, UncertaintyWeights
from pose.models.local_attention import local_mask, rotate_by_position
from pose.models.motion_codec import MotionCodec, perplexity

SAMPLES = 6400  # of six frames at 15 fps
TINY_TRUNK = {"width": 32, "speech_width": 8, "layers": 1, "heads": 2, "local_heads": 2, "feedforward": 32}
WINDOW = {"frames": 6, "seed_frames": 2}


def tiny_models():
    trunk = {**TINY_TRUNK, "local_window": 3}
    torch.manual_seed(0)
    models = [
        DiffuseStyleGesture(9, 5, 3, **WINDOW, **trunk, style_width=8),
        DiffuseStyleGesture(9, 5, 3, **WINDOW, **trunk, seed_mode="frames", seed_dropout=0.0),
        HolisticDiffusion(5, 4, speech_dim=5, style_dim=3, **WINDOW, **trunk),
        HolisticDiffusion(9, 4, tasks=("gesture",), speech_dim=5, style_dim=3, **WINDOW, **trunk),
        DiffGesture(9, 3, **WINDOW, width=16, speech_width=4, blocks=1, heads=2),
        FineGesture(9, 3, **WINDOW, width=16, speech_width=8, layers=1, heads=2),
    ]
    for model in models:
        for value in model.parameters():  # away from weights that start at zero
            value.data.add_(0.02 * torch.randn_like(value))
    return models


NAMES = ("style", "style-plus", "holistic", "holistic-gesture", "diff", "fine")


def inputs(model, batch=2):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    speech = normal(batch, SAMPLES) if model.speech_input == "waveform" else normal(batch, 6, 5)
    return {
        "sample": normal(batch, 6, 9),
        "timestep": torch.tensor([3, 250])[:batch],
        "speech": speech,
        "seed": normal(batch, 2, 9),
        "style": torch.eye(3)[:batch],
    }


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (DiffuseStyleGesture.zeroeggs, 9_001_781),
        (DiffuseStyleGesture.beat, 13_588_100),
        (DiffuseStyleGesture.twh, 20_705_080),
        (DiffGesture.ted, 6_457_271),
        (DiffGesture.ted_expressive, 25_620_093),
        (HolisticDiffusion.beat, 13_721_693),
    ],
)
def test_published_parameter_counts(build, count):
    with torch.device("meta"):
        assert parameters(build()) == count


def test_published_head_counts():
    model = HolisticDiffusion.beat()
    assert [layer.self_attn.num_heads for layer in model.trunk.encoder.layers] == [4] * 8
    assert model.trunk.local_heads == 8 and model.dims == [2052, 153]


@pytest.mark.parametrize("model", tiny_models(), ids=NAMES)
class TestDenoisers:
    def test_shape_and_repeatability(self, model):
        model.eval()
        given = inputs(model)
        first = model(**given)
        assert first.shape == (2, 6, 9) and torch.equal(first, model(**given))

    def test_condition_once_equals_forward(self, model):
        model.eval()
        given = inputs(model)
        condition = model.condition(**{name: given[name] for name in ("speech", "seed", "style")})
        assert torch.equal(model.denoise(given["sample"], given["timestep"], condition), model(**given))
        joined = condition.joined(model.null_condition(speech=given["speech"], seed=given["seed"]))
        both = model.denoise(given["sample"].repeat(2, 1, 1), given["timestep"].repeat(2), joined)
        torch.testing.assert_close(both[:2], model(**given), atol=1e-5, rtol=1e-5)

    def test_every_input_matters(self, model):
        model.eval()
        given = inputs(model)
        base = model(**given)
        for name in given:
            changed = given | {name: given[name].flip(0)}
            assert not torch.allclose(model(**changed), base, atol=1e-6), f"{name} does nothing"

    def test_without_seed_and_style(self, model):
        model.eval()
        given = inputs(model)
        assert torch.isfinite(model(given["sample"], given["timestep"], speech=given["speech"])).all()

    def test_saving(self, model, tmp_path):
        model.eval()
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path).eval()
        assert torch.equal(loaded(**inputs(model)), model(**inputs(model)))

    def test_foreign_weights_are_refused(self, model, tmp_path):
        changed = {name: value for name, value in model.config.items() if not name.startswith("_")}
        grown = type(model)(**{**changed, "style_dropout": 0.0} if "style_dropout" in changed else changed)
        grown.extra = torch.nn.Linear(2, 2)
        grown.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="extra"):
            type(model).from_pretrained(tmp_path)

    def test_all_parameters_learn(self, model):
        """Every parameter gets a gradient from the loss within a few batches of dropped and kept conditions."""
        model.train()
        torch.manual_seed(0)
        target = torch.randn(8, 6, 9)
        given = inputs(model)
        given = {name: value.repeat(4, *[1] * (value.ndim - 1)) for name, value in given.items()}
        for _ in range(4):
            loss = denoising_loss(model(**given), target, model.prediction_type)
            assert loss.shape == (8,)
            loss.mean().backward()
        missing = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
        assert not missing

    def test_wrong_shapes_are_named(self, model):
        given = inputs(model)
        with pytest.raises(ValueError, match=r"seed must be \(2, 2, 9\)"):
            model(**given | {"seed": given["seed"][:, :1]})
        with pytest.raises(ValueError, match=r"style must be \(2, 3\)"):
            model(**given | {"style": given["style"][:, :2]})


def test_training_drops_conditions():
    model = tiny_models()[0].train()
    given = inputs(model)
    speech = given["speech"][:1].expand(400, -1, -1)
    condition = model.condition(speech=speech, style=given["style"][:1].expand(400, -1))
    kinds = torch.unique(condition.clip.round(decimals=5), dim=0)
    assert len(kinds) == 2  # style kept or dropped; the seed is not there
    dropped = (condition.clip - model.condition(speech=speech).clip).abs().amax(1) < 1e-6
    assert 0.04 < dropped.float().mean() < 0.18


def test_diff_gesture_null_ignores_everything():
    model = tiny_models()[4].eval()
    given = inputs(model)
    null = model.null_condition(speech=given["speech"])
    assert torch.equal(null.frames[0, 0], model.null_context) and torch.equal(null.frames[0], null.frames[1])


def test_released_head_is_linear():
    torch.manual_seed(0)
    x = torch.randn(4, 16)
    for fidelity, linear in (("released", True), ("paper", False)):
        head = DiffGesture(9, 0, **WINDOW, width=16, blocks=1, heads=2, fidelity=fidelity).pose_out
        zero = head(torch.zeros_like(x))
        assert torch.allclose(head(x) + head(-x), 2 * zero, atol=1e-5) is linear


def test_waveform_encoder_meets_published_lengths():
    encoder = DiffGesture(9, 0, width=16, blocks=1, heads=2).speech
    for samples in (36_266, 36_267):
        assert encoder.layers(torch.zeros(1, 1, samples)).shape == (1, 32, 34)


def test_local_attention_looks_back_only():
    mask = local_mask(9, 3, torch.device("cpu"))
    assert mask.diagonal().all() and not mask.triu(1).any()
    assert mask[8].nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8] and mask[3].sum() == 4


def test_rotary_scores_depend_on_distance_alone():
    token = torch.randn(1, 1, 16).expand(1, 10, 16)
    rotated = rotate_by_position(token, 2)
    scores = rotated[0] @ rotated[0].T
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rotated.norm(dim=-1), token.norm(dim=-1))


def test_holistic_tasks_do_not_see_each_other():
    model = tiny_models()[2].eval()
    given = inputs(model)
    base = model.split(model(**given))
    other = dict(given, sample=torch.cat([given["sample"][..., :5], torch.randn(2, 6, 4)], -1))
    changed = model.split(model(**other))
    torch.testing.assert_close(changed["gesture"], base["gesture"])
    assert not torch.allclose(changed["expression"], base["expression"])


def test_uncertainty_weights_settle_at_the_losses():
    """Stationary where σ² is the loss itself; fixed weights stay at one half and have nothing to train."""
    weights = UncertaintyWeights()
    optimiser = torch.optim.Adam(weights.parameters(), 0.05)
    losses = torch.tensor([0.04, 0.16])
    start = float(weights(losses).detach())
    assert start == pytest.approx(0.1)
    for _ in range(200):
        optimiser.zero_grad()
        weights(losses).backward()
        optimiser.step()
    torch.testing.assert_close(torch.exp(2 * weights.log_sigma.detach()), losses, rtol=0.05, atol=0)
    torch.testing.assert_close(weights.shares(), torch.tensor([0.8, 0.2]), rtol=0.05, atol=0)
    fixed = UncertaintyWeights(trained=False)
    assert not [p for p in fixed.parameters() if p.requires_grad]
    assert float(fixed(losses).detach()) == pytest.approx(0.1)


@pytest.mark.parametrize(("spatial", "temporal"), [(False, True), (True, False), (False, False)])
def test_fine_gesture_ablations(spatial, temporal):
    full = FineGesture(9, 3, **WINDOW, width=16, speech_width=8, layers=1, heads=2)
    less = FineGesture(
        9, 3, **WINDOW, width=16, speech_width=8, layers=1, heads=2, spatial=spatial, temporal=temporal
    ).eval()
    assert parameters(less) < parameters(full)
    assert all((block.spatial is not None) is spatial for block in less.blocks)
    assert torch.isfinite(less(**inputs(less))).all()


class TestCodec:
    def test_shapes_and_ablations(self):
        vectors = torch.randn(2, 7, 9)
        for quantize in (True, False):
            codec = MotionCodec(9, 8, 16, 12, quantize=quantize)
            output = codec(vectors)
            assert output.reconstruction.shape == (2, 7, 9) and output.codes.shape == (2, 7, 8)
            assert torch.equal(output.codes, output.latents) is not quantize
        assert MotionCodec().config.latent_dim == 64 and MotionCodec().config.codes == 256

    def test_codes_are_the_nearest(self):
        codec = MotionCodec(9, 8, 16, 12)
        latents = torch.randn(2, 7, 8) * 0.1
        codes, indices = codec.nearest(latents)
        distance = (latents[:, :, None] - codec.book.weight).norm(dim=-1)
        assert torch.equal(indices, distance.argmin(-1)) and torch.equal(codes, codec.book.weight[indices])

    def test_gradient_passes_the_codes(self):
        codec = MotionCodec(9, 8, 16, 12)
        losses = codec_losses(codec(torch.randn(2, 7, 9)), torch.randn(2, 7, 9))
        assert set(losses) == {"value", "velocity", "acceleration", "codebook", "commitment"}
        sum(value.mean() for value in losses.values()).backward()
        assert codec.encoder[0].weight.grad.abs().sum() > 0 and codec.book.weight.grad.abs().sum() > 0

    def test_latents_are_standardised(self, tmp_path):
        codec = MotionCodec(9, 8, 16, 12).eval()
        vectors = torch.randn(4, 50, 9)
        codec.fit_latents([vectors[:2], vectors[2:]])
        latents = codec.encode(vectors).flatten(0, 1)
        torch.testing.assert_close(latents.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.std(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)
        whole = codec(vectors).reconstruction
        torch.testing.assert_close(codec.decode(codec.encode(vectors)), whole, atol=1e-5, rtol=1e-4)
        codec.save_pretrained(tmp_path)
        assert torch.equal(MotionCodec.from_pretrained(tmp_path).encode(vectors), codec.encode(vectors))

    def test_dead_codes_come_alive(self):
        codec = MotionCodec(9, 8, 16, 12)
        latents = torch.randn(2, 40, 8)
        _, before = codec.nearest(latents)
        codec.revive(latents, torch.bincount(before.flatten(), minlength=16) == 0)
        _, after = codec.nearest(latents)
        assert perplexity(after, 16) > perplexity(before, 16)
        assert perplexity(torch.arange(16), 16) == pytest.approx(16.0, rel=1e-4)


def test_losses_are_zero_on_equal_and_positive_else():
    x, y = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    for kind in ("sample", "epsilon"):
        assert not denoising_loss(x, x, kind).any() and (denoising_loss(x, y, kind) > 0).all()
    assert not speed_loss(x, x + 3.0).gt(1e-6).any()
    with pytest.raises(ValueError, match="v_prediction"):
        denoising_loss(x, y, "v_prediction")
