"""A tiny DiffuseStyleGesture learns waves of two sizes: what training, sampling, guidance and stitching do together.

The motion is three waves whose phase the speech tells and whose size is the style: 0.4 calm, 1.2 lively.
"""

import pytest
import torch

from pose.losses import denoising_loss
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.sampling import denoise, draw, guided, scheduler_for
from pose.stitching import Stitcher, crossfade_weights

FRAMES, SEED, DIM = 24, 4, 3
CALM, LIVELY = torch.eye(2)[:1], torch.eye(2)[1:]


def waves(phase, size):
    """(B, F) phases and (B, 1) sizes to motion (B, F, 3) and speech (B, F, 3)."""
    motion = torch.stack([size * phase.sin(), size * phase.cos(), size * (2 * phase).sin()], -1)
    return motion, torch.stack([phase.sin(), phase.cos(), torch.zeros_like(phase)], -1)


def batch(count):
    style = torch.randint(2, (count,))
    phase = 6.28 * torch.rand(count, 1) + 0.35 * torch.arange(FRAMES)
    motion, speech = waves(phase, torch.tensor([0.4, 1.2])[style][:, None] * (1 + 0.1 * torch.randn(count, 1)))
    return motion, speech, torch.eye(2)[style]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    size = {"width": 64, "speech_width": 16, "style_width": 16, "layers": 1, "local_heads": 4, "feedforward": 96}
    model = DiffuseStyleGesture(DIM, 3, 2, FRAMES, SEED, **size, local_window=6)
    scheduler, optimiser = scheduler_for("ddpm", model), torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(200):
        clean, speech, style = batch(32)
        timestep, noise = torch.randint(1000, (32,)), torch.randn_like(clean)
        noised = scheduler.add_noise(clean, noise, timestep)
        prediction = model(noised, timestep, speech=speech, seed=clean[:, :SEED], style=style)
        loss = denoising_loss(prediction, clean, model.prediction_type).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.2 * sum(losses[:20])
    return model.eval()


def generated(model, style, name="dpm++", steps=5, guidance=1.0, against=None, count=16):
    """Sizes of the waves made for one style."""
    scheduler = scheduler_for(name, model)
    generators = [torch.Generator().manual_seed(k) for k in range(count)]
    phase = 6.28 * torch.arange(count)[:, None] / count + 0.35 * torch.arange(FRAMES)
    motion, speech = waves(phase, 1.0)
    with torch.no_grad():
        condition = model.condition(speech=speech, style=style.expand(count, -1))
        other = model.null_condition(speech=speech)
        if against is not None:
            other = model.condition(speech=speech, style=against.expand(count, -1))
        noise = draw((count, FRAMES, DIM), generators, torch.empty(0))
        made = denoise(guided(model, condition, other, guidance, scheduler), noise, scheduler, generators, steps)
    agreement = torch.nn.functional.cosine_similarity(made.flatten(1), motion.flatten(1)).mean()
    return float(made[..., :2].norm(dim=-1).mean()), float(agreement)


@pytest.mark.parametrize(("name", "steps"), [("ddim", 10), ("dpm++", 5), ("unipc", 5), ("ddpm", 50)])
def test_it_follows_speech_and_style_with_every_sampler(model, name, steps):
    calm, calm_phase = generated(model, CALM, name, steps)
    lively, lively_phase = generated(model, LIVELY, name, steps)
    assert calm == pytest.approx(0.4, abs=0.12) and lively == pytest.approx(1.2, abs=0.2)
    assert calm_phase > 0.9 and lively_phase > 0.95


def test_guidance_exaggerates_and_mixes(model):
    """γ above 1 goes beyond the style, away from none or from the other; between 0 and 1 it lies between the two."""
    calm, lively = generated(model, CALM)[0], generated(model, LIVELY)[0]
    assert generated(model, LIVELY, guidance=3.0)[0] > lively + 0.5
    assert generated(model, LIVELY, guidance=1.5, against=CALM)[0] > lively + 0.2
    mixed = [generated(model, LIVELY, guidance=share, against=CALM)[0] for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert mixed == sorted(mixed)
    assert mixed[0] == pytest.approx(calm, abs=1e-3) and mixed[-1] == pytest.approx(lively, abs=1e-3)
    assert calm + 0.2 < mixed[2] < lively - 0.2
    blended = generated(model, (CALM + LIVELY) / 2)[0]
    assert calm < blended < lively


def test_a_long_clip_has_no_seam_and_no_drift(model):
    """A hundred windows, each seeded by the one before: acceleration at the joins is that of elsewhere."""
    stride, count = FRAMES - SEED, 100
    motion, speech = waves(0.35 * torch.arange(count * stride + SEED)[None], torch.tensor([[1.2]]))
    scheduler, generators = scheduler_for("dpm++", model), [torch.Generator().manual_seed(0)]
    stitcher, pieces = Stitcher(motion[:, :SEED], crossfade_weights(SEED)), []
    for k in range(count):
        heard = speech[:, k * stride : k * stride + FRAMES]
        with torch.no_grad():
            condition = model.condition(speech=heard, seed=stitcher.tail, style=LIVELY)
        noise = draw((1, FRAMES, DIM), generators, torch.empty(0))
        window = denoise(guided(model, condition, None, 1.0, scheduler), noise, scheduler, generators, 5)
        pieces.append(stitcher.push(window))
    made = torch.cat([*pieces, stitcher.tail], 1)
    assert made.shape == (1, count * stride, DIM)
    acceleration = made.diff(n=2, dim=1).norm(dim=-1)[0]
    joins = torch.zeros(len(acceleration), dtype=torch.bool)
    for k in range(1, count):
        joins[k * stride - SEED - 2 : k * stride + 1] = True
    assert float(acceleration[joins].mean()) < 1.5 * float(acceleration[~joins].mean())
    error = (made - motion[:, SEED:]).norm(dim=-1)[0]
    assert float(error[-400:].mean()) < 1.5 * float(error[:400].mean()) + 0.05
