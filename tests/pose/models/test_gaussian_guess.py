"""The linear guess: right for Gaussian windows, hears speech, silent without statistics; networks begin with it."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pose.models.diff_gesture import DiffGesture
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.gaussian_guess import GaussianGuess, warped_cosines
from pose.models.holistic import HolisticDiffusion, UncertaintyWeights
from pose.sampling import denoise, draw, guided, scheduler_for
from train.guess import RIDGES, fit_guess, ridge, set_guess

FRAMES, WIDTH, AXES = 24, 12, 3
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}


def windows(count: int, seed: int = 0) -> torch.Tensor:
    """(W, F, P): three slow wanderings, seen through twelve numbers."""
    random = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, FRAMES, AXES, generator=random)
    slow = steps.cumsum(1) / FRAMES**0.5 + torch.randn(count, 1, AXES, generator=random)
    mixing = torch.linalg.qr(torch.randn(WIDTH, AXES, generator=torch.Generator().manual_seed(9)))[0]
    return slow @ mixing.T


def fitted(made: GaussianGuess, found: torch.Tensor, styles: torch.Tensor, speech: torch.Tensor | None = None):
    """With silence for speech where none is given; every window is a clip."""
    speech = torch.zeros(*found.shape[:2], len(made.heard_mean)) if speech is None else speech
    set_guess(made, found, styles, speech, torch.arange(len(found)))
    return made


def answered(made: GaussianGuess, noised, timestep, style, speech: torch.Tensor | None = None) -> torch.Tensor:
    speech = torch.zeros(*noised.shape[:2], len(made.heard_mean)) if speech is None else speech
    return made(noised, timestep, style, *made.condition(speech))


@pytest.fixture(scope="module")
def guess():
    return fitted(GaussianGuess(WIDTH, AXES, FRAMES, 0, SCHEDULE, 2, 3), windows(2000), torch.zeros(2000, 0))


def test_warped_cosines_are_orthonormal_and_run_at_the_pace():
    pace = torch.zeros(3, 24)
    pace[1, :12], pace[2] = 1.0, torch.randn(24, generator=torch.Generator().manual_seed(0))
    rows = warped_cosines(pace)
    torch.testing.assert_close(rows @ rows.transpose(1, 2), torch.eye(24).repeat(3, 1, 1), atol=1e-5, rtol=0)
    place = torch.arange(24.0)
    cosines = torch.cos(torch.pi / 24 * (place + 0.5) * place[:, None]) * (2 / 24) ** 0.5  # DCT-II at an even pace
    torch.testing.assert_close(rows[0, 1:], cosines[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:, 0], torch.full((3, 24), 24**-0.5), atol=1e-5, rtol=0)
    moved = rows[1, 1:5].diff(dim=1).square().sum(0)
    assert moved[:11].mean() > 3 * moved[12:].mean()


def talked(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows that move where speech is loud, in whatever direction, and whose fourth number is the other feature."""
    random = torch.Generator().manual_seed(seed)
    loud = (torch.rand(count, 6, generator=random) > 0.5).float().repeat_interleave(FRAMES // 6, 1)
    other = torch.randn(count, FRAMES, generator=random)
    steps = torch.randn(count, FRAMES, WIDTH, generator=random) * (0.05 + loud[..., None])
    found = steps.cumsum(1) / FRAMES**0.5
    found = found - found.mean(1, keepdim=True)
    found[..., 3] += 2.0 * other
    return found, torch.stack([loud, other], -1)


def test_speech_moves_the_mean_and_sets_the_pace():
    """Samples of a network that adds nothing yet: what is heard shows in them, and with other speech it does not."""
    torch.manual_seed(0)
    model = DiffuseStyleGesture.small(
        WIDTH, 2, 1, frames=FRAMES, seed_frames=4, width=32, layers=1, axes=WIDTH, context=1, local_window=4
    ).eval()
    found, speech = talked(600, 0)
    fitted(model.guess, found, torch.zeros(600, 1), speech)
    _, speech = talked(64, 1)
    scheduler = scheduler_for("dpm++", model)
    generators = [torch.Generator().manual_seed(k) for k in range(64)]
    with torch.no_grad():
        condition = model.condition(speech=speech)
    noise = draw((64, FRAMES, WIDTH), generators, torch.empty(0))
    made = denoise(guided(model, condition, None, 1.0, scheduler), noise, scheduler, generators, 30)

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    moved = made[..., [0, 1, 2, *range(4, WIDTH)]].diff(dim=1).norm(dim=-1)
    assert alike(moved, speech[:, 1:, 0]) > 0.5 > 0.25 > abs(alike(moved, speech.roll(1, 0)[:, 1:, 0]))
    assert alike(made[..., 3], speech[..., 1]) > 0.9
    times, sway = model.guess.condition(speech[:2], torch.tensor([1.0, 0.0])[:, None, None])
    assert sway[0].any() and not sway[1].any()  # speech that is dropped is not heard
    torch.testing.assert_close(times[1], warped_cosines(torch.zeros(1, FRAMES))[0])


def test_what_is_on_no_loud_axis_of_speech_is_heard_whole():
    """Eighty features that move together hide one that moves by itself, until it is heard as it is."""
    random = torch.Generator().manual_seed(0)
    loud = torch.randn(400, FRAMES, 16, generator=random) @ torch.randn(16, 80, generator=random)
    rare = (torch.rand(400, FRAMES, 1, generator=random) > 0.9).float()
    speech, found = torch.cat([loud, rare], -1), windows(400)
    found[..., :1] += 5 * rare
    errors = []
    for heard_whole in (0, 1):
        made = GaussianGuess(WIDTH, WIDTH, FRAMES, 0, SCHEDULE, 81, 1, heard_whole)
        set_guess(made, found, torch.zeros(400, 0), speech, torch.arange(400))
        sway = made.condition(speech)[1] @ made.basis.T
        errors.append(float((sway[..., :1] - 5 * (rare - rare.mean())).square().mean()))
    assert errors[1] < 0.2 * errors[0]


def test_an_emphasised_pace_is_so_much_larger_and_has_its_own_variances():
    found, speech = talked(200, 0)
    plain, strong = (GaussianGuess(WIDTH, WIDTH, FRAMES, 0, SCHEDULE, 2, 1) for _ in range(2))
    for made, emphasis in ((plain, 1.0), (strong, 1.5)):
        set_guess(made, found, torch.zeros(200, 0), speech, torch.arange(200), emphasis)
    assert plain.pace.norm() > 0.1
    torch.testing.assert_close(strong.pace, 1.5 * plain.pace)
    assert not torch.allclose(strong.variance, plain.variance, rtol=1e-2)


def test_ridge_finds_what_there_is_and_nothing_else():
    random = torch.Generator().manual_seed(0)
    inputs, left_out = torch.randn(400, 50, generator=random), torch.arange(400) % 4 == 3
    true = torch.zeros(50, 2)
    true[3], true[7] = torch.tensor([2.0, 0.0]), torch.tensor([0.0, -1.0])
    targets = inputs @ true + 0.1 * torch.randn(400, 2, generator=random)
    torch.testing.assert_close(ridge(inputs, targets, left_out), true, atol=0.15, rtol=0)
    noise = torch.randn(400, 2, generator=random)
    assert ridge(inputs, noise, left_out).norm() < 0.3
    assert not ridge(inputs, targets, torch.zeros(400, dtype=torch.bool)).any()  # nothing to choose by


def test_ridge_of_fewer_rows_than_unknowns_solves_the_normal_equations():
    """Whichever penalty is chosen, the answer is that of the normal equations."""
    torch.manual_seed(0)
    inputs, left_out = torch.randn(60, 200), torch.arange(60) % 4 == 3
    targets = inputs[:, :3] + inputs[:, 3:6]
    found = ridge(inputs, targets, left_out)
    x, y = inputs.double(), targets.double()
    answers = [torch.linalg.solve(x.T @ x + p * torch.eye(200).double(), x.T @ y).float() for p in RIDGES]
    assert found.any() and min(float((found - answer).abs().max()) for answer in answers) < 1e-5


@pytest.mark.parametrize("level,least", [(50, 0.98), (500, 0.85), (900, 0.3)])
def test_it_beats_the_noised_sample_and_the_mean(guess, level, least):
    clean = windows(200, 1)
    scheduler = scheduler_for("ddpm", DiffuseStyleGesture.small(WIDTH, 3, 1))
    timestep = torch.full((200,), level)
    noised = scheduler.add_noise(clean, torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)), timestep)
    error = (answered(guess, noised, timestep, torch.zeros(200, 0)) - clean).square().mean() / clean.square().mean()
    assert 1 - error > least
    scaled = noised / scheduler.alphas_cumprod[level].sqrt()  # all that the sample alone could say
    assert error < 0.5 * (scaled - clean).square().mean() / clean.square().mean()


def test_without_statistics_it_is_the_mean():
    silent = GaussianGuess(WIDTH, AXES, FRAMES, 0, SCHEDULE, 2, 3)
    sample, speech = torch.randn(2, FRAMES, WIDTH), torch.randn(2, FRAMES, 2)
    assert not answered(silent, sample, torch.tensor([0, 999]), torch.zeros(2, 0), speech).any()


def test_styles_move_mean_and_size():
    """Two styles, a calm one and a lively one that stands elsewhere: at full noise and in between."""
    calm, lively = 0.5 * windows(1000, 4), 1.5 * windows(1000, 5) + 2.0
    made = GaussianGuess(WIDTH, AXES + 1, FRAMES, 2, SCHEDULE, 2, 3)
    told = torch.eye(2).repeat_interleave(1000, 0)
    both = torch.cat([calm, lively])
    fitted(made, both - both.mean((0, 1)), told)
    noise = torch.randn(1, FRAMES, WIDTH, generator=torch.Generator().manual_seed(0))
    cases = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 0.0]])
    at_full_noise = answered(made, noise.expand(4, -1, -1), torch.full((4,), 999), cases).mean((1, 2))
    assert at_full_noise[0] < -0.9 < at_full_noise[1] < 0.1 < 0.9 < at_full_noise[2] and abs(at_full_noise[3]) < 0.1
    moved = answered(made, noise.expand(4, -1, -1), torch.full((4,), 600), cases).std(1).mean(-1)
    assert moved[0] < moved[1] < moved[2]


def test_new_network_of_the_noise_samples_the_data_s_covariance(tmp_path):
    """Zeros in its last layer: what comes out of sampling is the Gaussian's, in size and in slowness."""
    torch.manual_seed(0)
    model = DiffGesture.small(WIDTH, frames=FRAMES, blocks=1, velocity=True, axes=AXES, beta_end=0.03).eval()
    fitted(model.guess, windows(2000), torch.zeros(2000, 0))
    model.save_pretrained(tmp_path)
    model = DiffGesture.from_pretrained(tmp_path).eval()  # the statistics travel with the weights
    scheduler = scheduler_for("dpm++", model)
    generators = [torch.Generator().manual_seed(k) for k in range(64)]
    with torch.no_grad():
        condition = model.condition(speech=torch.zeros(64, round(FRAMES / 15 * 16000)))
    noise = draw((64, FRAMES, WIDTH), generators, torch.empty(0))
    made = denoise(guided(model, condition, None, 1.0, scheduler), noise, scheduler, generators, 50)
    true = windows(64, 3)
    assert 0.8 < made.std() / true.std() < 1.2
    assert 0.8 < made.diff(dim=1).std() / true.diff(dim=1).std() < 1.25


def test_weights_from_before_speech_was_heard_are_refused_in_one_line(tmp_path, capfd):
    model = DiffuseStyleGesture.small(WIDTH, 3, 1, frames=FRAMES, seed_frames=4, width=32, layers=1, axes=4)
    model.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "pace" not in name}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"missing: guess\.pace\): train the model again"):
        DiffuseStyleGesture.from_pretrained(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_guess_of_a_model_of_the_noise_needs_v():
    with pytest.raises(ValueError, match="velocity=true"):
        DiffGesture.small(WIDTH, axes=3)


class Windows(list):
    """What `fit_guess` reads of training windows."""

    @property
    def places(self) -> list[tuple[int, int]]:
        return [(number, 0) for number in range(len(self))]


@pytest.mark.parametrize("tasks", [("gesture", "expression"), ("expression",)])
def test_fitting_sets_every_guess_and_the_first_layers(tasks):
    dims = {"gesture": WIDTH, "expression": 5}
    model = HolisticDiffusion.small(
        WIDTH, 3, 2, expression_dim=5, tasks=tasks, frames=FRAMES, seed_frames=4, width=16, axes=8
    )
    size = sum(dims[task] for task in tasks)
    vectors = torch.randn(20, FRAMES, size, generator=torch.Generator().manual_seed(0))
    speech = torch.randn(20, FRAMES, 3, generator=torch.Generator().manual_seed(1))
    items = Windows(
        {"vectors": part, "style": torch.eye(2)[k % 2], "speech": speech[k]} for k, part in enumerate(vectors)
    )
    fit_guess(model, items, None)
    for task in tasks:
        guess = model.guess[task]
        assert guess.variance.max() > 0 and guess.basis.shape == (dims[task], min(8, dims[task]))
        count = guess.basis.shape[1]
        torch.testing.assert_close(model.pose_in[task].weight[:count], guess.basis.T)
    plain = HolisticDiffusion.small(WIDTH, 3, 2, expression_dim=5, frames=FRAMES, seed_frames=4, width=16)
    with pytest.raises(ValueError, match="give it model.axes"):
        fit_guess(plain, items, None)


def test_uncertainty_goes_faster_than_its_parameter():
    slow, fast = UncertaintyWeights(2), UncertaintyWeights(2, rate=10.0)
    losses = torch.tensor([0.01, 0.25])
    for weights in (slow, fast):
        optimiser = torch.optim.Adam(weights.parameters(), 0.01)
        for _ in range(80):
            optimiser.zero_grad()
            weights(losses).backward()
            optimiser.step()
    torch.testing.assert_close(fast.sigmas(), losses.sqrt(), rtol=0.1, atol=0)
    assert slow.sigmas().min() > 0.4
    assert abs(float(fast.shares()[0]) - 25 / 26) < 0.02
