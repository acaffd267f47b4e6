"""The video stage's training as a user runs it: both stages, resuming, processes, a full disk, what is trained."""

import json
import os
import resource
import shutil
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from prepared_clips import synthetic_clip, write_synthetic
from safetensors.torch import load_file
from torch.utils.data import default_collate

from avatar import latents
from avatar.build import load_pipeline
from avatar.data.shards import ShardFolder, ShardWriter
from avatar.pipeline import AvatarPipeline
from train.avatar_task import GROUPS, STAGES, AvatarTask, LossConfig, NoiseConfig, parameter_groups
from train.avatar_training import (
    AvatarConfig,
    _fill,
    check_latents,
    main,
    start_reference,
    starting_pipeline,
    trained_groups,
    window_shape,
)
from train.avatar_windows import AvatarWindows
from train.batches import Sampled
from train.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TOGETHER = 1e-4  # of losses: two processes add in another order


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight clips of 25 frames, two of them for validation."""
    folder = tmp_path_factory.mktemp("data")
    return write_synthetic(folder, clips=8, latent_channels=4, audio=(2, 4, 64))


def arguments(stage, data, run, *changes):
    shared = [
        "preset=tiny", f"data.folders=[{data}]", f"loop.output={run}", "loop.log_every=1", "loop.checkpoint_every=2",
        "loop.steps=2", "loop.videos=0", "loop.validation_batches=1", f"model={ROOT / 'configs' / 'model_tiny.yaml'}",
    ]  # fmt: skip
    return [str(ROOT / "configs" / f"avatar_stage{stage}.yaml"), *shared, *changes]


def experiment(stage, data, *changes):
    path, *given = arguments(stage, data, "nowhere", *changes)
    return load_config(AvatarConfig, path, given)


def lines(run):
    return [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]


def in_processes(count, argv, limit=None):
    """Exit codes of main(argv) in `count` forked processes, as `accelerate launch` starts them.

    `limit`: bytes that a file may have; more is an error, as on a full disk.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            code = 70
            try:
                for state in (AcceleratorState, GradientState, PartialState):
                    state._reset_state()
                os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
                if count > 1:
                    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
                    os.environ |= {name: str(value) for name, value in place.items()}
                    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                if limit is not None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                code = main(argv)
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def assert_alike(one, other):
    """Losses of all steps, and of the first one everything: later, AdamW's steps of equal size blow up what two orders
    of addition make of the smallest gradients."""
    assert [line["step"] for line in one] == [line["step"] for line in other]
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if "gradient/" not in name or a["step"] == 1:
                assert a[name] == pytest.approx(b[name], abs=TOGETHER, rel=1e-3), (a["step"], name)


def test_both_stages_and_the_pipeline_they_leave(data, tmp_path, capsys):
    """Stage 1, stage 2 from its checkpoint with a live prior and videos; the checkpoint drives infer/run.py."""
    from infer.run import main as infer

    first, second = tmp_path / "first", tmp_path / "second"
    assert main(arguments(1, data, first)) == 0
    pipeline = AvatarPipeline.from_pretrained(first / "best")
    ends = [p for name, p in pipeline.unet.named_parameters() if "motion_modules" in name and ".proj_out." in name]
    assert ends and not any(p.any() for p in ends)  # nothing moves before stage 2
    changes = [f"model={first / 'best'}", "data.prior=live", "loop.videos=1", "loop.video_seconds=0.4"]
    assert main(arguments(2, data, second, *changes)) == 0
    assert "best checkpoint" in capsys.readouterr().out
    logged = lines(second)
    assert [line["step"] for line in logged] == [0, 1, 2, 2]
    assert {"denoising", "mask", "heatmap", "gradient/audio", "region/face", "region/doubtful", "samples"} <= set(
        logged[1]
    )
    assert all(np.isfinite(list(line.values())).all() for line in logged)

    # What there is to look at: recording, prior and model side by side, with sound; masks; codebooks.
    (video,) = (second / "videos").glob("*.mp4")
    assert imageio.imread(video).shape == (10, 64, 192, 3)
    assert {path.name for path in (second / "videos").glob("*.png")} == {
        "step_00000002_masks.png", "step_00000002_codebooks.png"
    }  # fmt: skip

    # The checkpoint is a pipeline for the command line.
    portrait = cv2.resize(imageio.imread(ROOT / "examples" / "presenter.png")[..., :3], (256, 256))
    imageio.imwrite(tmp_path / "portrait.png", portrait)
    sound = next(iter(ShardFolder(data))).waveform()[:8000]
    import soundfile

    soundfile.write(tmp_path / "speech.wav", sound, 16000)
    given = ["--image", "portrait.png", "--audio", "speech.wav", "--output", "talk.mp4"]
    places = [str(tmp_path / part) if "." in part else part for part in given]
    assert infer([*places, "--size", "128", "--model", str(second / "best"), "--steps", "1"]) == 0
    assert imageio.imread(tmp_path / "talk.mp4").shape[1:] == (128, 128, 3)


@pytest.mark.timeout(600)  # 15 s of one core, but several processes that share it with whatever else there is
def test_two_processes_are_one_and_resuming_may_change_their_number(data, tmp_path, capfd):
    """8 steps at a batch of 2: losses within 1e-4, and after a change of processes too."""
    given = ["loop.steps=8", "loop.checkpoint_every=6", "frames=2"]
    one, two, mixed = (tmp_path / name for name in ("one", "two", "mixed"))
    assert in_processes(1, arguments(2, data, one, *given)) == [0]
    assert in_processes(2, arguments(2, data, two, *given)) == [0, 0]
    assert_alike(lines(one), lines(two))
    # The same from a checkpoint of either, on the other number of processes, killed while it saved the next one.
    for source, run, processes in ((two, mixed, 1), (one, tmp_path / "grown", 2)):
        shutil.copytree(source / "checkpoints" / "step_00000006", run / "checkpoints" / "step_00000006")
        for name in ("config.yaml", "losses.jsonl"):
            shutil.copy(source / name, run)
        (run / "checkpoints" / ".step_00000008.part").mkdir()
        changes = ["loop.accumulate=2"] if processes == 1 else []
        capfd.readouterr()
        assert in_processes(processes, arguments(2, data, run, *given, *changes)) == [0] * processes
        assert "resuming at step 6 of 8" in capfd.readouterr().out
        assert_alike(lines(one), lines(run))
    assert not list((mixed / "checkpoints").glob(".*"))
    # Shorter windows than the model's are what the checkpoint then makes.
    assert json.loads((one / "last" / "model_index.json").read_text())["window"] == 2
    a, b = (load_file(run / "last" / "unet" / "diffusion_pytorch_model.safetensors") for run in (one, mixed))
    assert np.mean([float((a[name] - b[name]).abs().mean()) for name in a]) < TOGETHER


def test_filling_the_cache_of_priors_knows_all_processes(monkeypatch):
    """It comes before accelerate's own start and must not spoil it, or each process would train alone."""

    def fill(argv):
        seen = []
        cache = SimpleNamespace(fill=lambda *given: seen.append(given[-1]) or iter(()))
        _fill(cache, [], SimpleNamespace(vae=torch.nn.Identity()))
        return 0 if seen == [2] and Accelerator().num_processes == 2 else 3

    monkeypatch.setattr(sys.modules[__name__], "main", fill)
    assert in_processes(2, []) == [0, 0]


def test_a_full_disk_stops_no_run_and_costs_no_checkpoint(data, tmp_path, capfd):
    run = tmp_path / "run"
    assert in_processes(1, arguments(1, data, run)) == [0]
    more = ["loop.steps=4", "loop.keep_last=1"]
    assert in_processes(1, arguments(1, data, run, *more), limit=100_000) == [2]
    shown = capfd.readouterr().err
    assert "step 4: the checkpoint could not be written" in shown and "free space and run the same command" in shown
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000002"]
    assert (run / "last").resolve().name == "step_00000002"
    assert in_processes(1, arguments(1, data, run, *more)) == [0]
    assert (run / "last").resolve().name == "step_00000004"
    AvatarPipeline.from_pretrained(run / "last")


@pytest.mark.parametrize(
    "stage,changes",
    [
        (1, ["train=[reference, pose, basic]"]),
        (1, []),
        (1, ["unfreeze=[all]"]),
        (2, ["unfreeze=[]"]),
        (2, ["unfreeze=[all]", "losses.heatmap=0", "checkpointing=true"]),
    ],
)
def test_every_trained_weight_has_a_gradient_and_no_other(stage, changes, data):
    """DDP waits for each; what is frozen keeps nothing."""
    config = experiment(stage, data, *changes)
    torch.manual_seed(0)
    pipeline = starting_pipeline(config)
    shape = window_shape(config, pipeline)
    task = AvatarTask(
        pipeline, stage, trained_groups(config, pipeline), config.noise, config.losses, config.checkpointing
    )
    samples = Sampled(AvatarWindows([ShardFolder(data)], "train", shape, config.conditions), 0)
    task(default_collate([samples[0, 1], samples[1, 2]]))["loss"].backward()
    for name, parameter in task.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    groups = parameter_groups(pipeline)
    trained = {name for name in GROUPS if any(p.requires_grad for p in groups[name])}
    assert trained == set(trained_groups(config, pipeline))
    if changes == ["train=[reference, pose, basic]"]:
        assert trained == set(STAGES[1])


@pytest.fixture(scope="module")
def batch(data):
    """A batch of stage 2 and a task for it, with every end awake."""
    config = experiment(2, data, "conditions.drop_clarity=0", "conditions.drop_both=0")
    torch.manual_seed(0)
    pipeline = starting_pipeline(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.unet.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    shape = window_shape(config, pipeline)
    samples = Sampled(AvatarWindows([ShardFolder(data)], "train", shape, config.conditions, dropping=False), 0)
    return pipeline, default_collate([samples[0, 1], samples[1, 2]])


def loss(task, batch, **changes):
    with torch.no_grad():
        return float(task(batch | changes)["denoising"])


def test_what_is_dropped_does_not_matter(batch):
    """A dropped photo, sound, motion or prior changes nothing any more; one that is kept does."""
    pipeline, given = batch
    task = AvatarTask(pipeline, 2, STAGES[2])
    given = given | {
        "prior_latents": torch.randn_like(given["latents"]),
        "doubt": torch.full_like(given["latents"][:, :1], 0.5),
        "keep_prior": torch.tensor([True, True]),
        "keep_motion": torch.tensor([True, True]),
    }
    others = {
        "keep_reference": {
            "reference_latents": torch.randn_like(given["reference_latents"]),
            "crops": 255 - given["crops"],
        },
        "keep_audio": {"audio": torch.randn_like(given["audio"])},
        "keep_motion": {"motion_latents": torch.randn_like(given["motion_latents"])},
        "keep_prior": {"prior_latents": torch.randn_like(given["latents"])},
    }
    for keep, other in others.items():
        never = {keep: torch.tensor([False, False])}
        assert loss(task, given, **never) == loss(task, given, **never, **other)
        always = {keep: torch.tensor([True, True])}
        assert loss(task, given, **always) != loss(task, given, **always, **other)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_hidden_mouth_is_doubted_and_weighs_more(batch, start):
    pipeline, given = batch
    task = AvatarTask(pipeline, 2, STAGES[2], NoiseConfig(prior_start=start), LossConfig(mouth=0))
    mouth = torch.zeros_like(given["latents"][:, :1])
    mouth[..., 2:5, 3:6] = 1
    prior = torch.randn_like(given["latents"])
    given = given | {"prior_latents": prior, "doubt": 0.5 * (1 - mouth), "keep_prior": torch.tensor([True, True])}
    other = {"doubt": given["doubt"] + 0.3 * mouth}
    assert loss(task, given) != loss(task, given, **other)
    plain = loss(task, given, mouth=mouth)
    assert loss(task, given, mouth=mouth, **other) == plain and loss(task, given, mouth=0 * mouth) == loss(task, given)
    assert loss(task, given, mouth=mouth, prior_latents=prior + mouth) != plain  # at rest, it is shown all the same
    heavy = AvatarTask(pipeline, 2, STAGES[2], NoiseConfig(prior_start=start), LossConfig(mouth=3))
    assert loss(heavy, given, mouth=mouth) > plain * 1.05


def test_the_loss_of_pictures_is_that_of_what_is_shown(batch):
    """Its gradient reaches the U-Net through the autoencoder, which stays, and it counts where the other does."""
    pipeline, given = batch
    pipeline.unet.zero_grad()
    task = AvatarTask(pipeline, 2, STAGES[2], NoiseConfig(), LossConfig(pixels=2.0))
    losses = task(given)
    assert losses["pixels"] > 0 and not any(p.requires_grad for p in pipeline.vae.parameters())
    losses["pixels"].backward()
    assert any(p.grad is not None and p.grad.any() for p in pipeline.unet.parameters())
    pipeline.unet.zero_grad()
    prior = {"prior_latents": given["latents"] + 1, "doubt": torch.zeros_like(given["latents"][:, :1])}
    nowhere = LossConfig(pixels=2.0, sure=0.0, mask=0, heatmap=0)
    sure = AvatarTask(pipeline, 2, STAGES[2], NoiseConfig(), nowhere)(
        given | prior | {"keep_prior": torch.tensor([True, True])}
    )
    assert sure["pixels"] == 0 == sure["denoising"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_perfect_prediction_has_no_loss_from_clip_or_prior(share, batch, monkeypatch):
    """Also for clips that are noised from their prior, whose target leads to the clip all the same."""
    pipeline, given = batch
    given = given | {
        "prior_latents": given["latents"] + 1,
        "doubt": torch.ones_like(given["latents"][:, :1]),
        "keep_prior": torch.tensor([True, True]),
    }
    weights = LossConfig(mask=0, pixels=0.01)  # decoding magnifies what epsilon's rounding leaves
    task = AvatarTask(pipeline, 2, STAGES[2], NoiseConfig(prior_start=share, times=(0.1, 0.9)), weights)
    seen = {}
    forward = pipeline.unet.forward

    def perfect(shown, times, **conditions):
        alpha = pipeline.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1, 1)
        noisy = shown[:, :4]
        seen["noise"] = (noisy - alpha.sqrt() * (given["latents"] + share)) / (1 - alpha).sqrt()
        output = forward(shown, times, **conditions)
        output.sample = (noisy - alpha.sqrt() * given["latents"]) / (1 - alpha).sqrt()
        return output

    monkeypatch.setattr(pipeline.unet, "forward", perfect)
    assert loss(task, given) < 1e-6
    assert abs(float(seen["noise"].std()) - 1) < 0.1  # what was added to clip or prior was plain noise


@pytest.mark.parametrize(
    "change,message",
    [
        ("data.folders=[nowhere]", "manifest.parquet does not exist"),
        ("data.folders=[]", "data.folders is not set"),
        ("stage=3", "stage must be 1 or 2"),
        ("model=nowhere.yaml", "no such model description"),
        ("model=configs", "no pipeline could be read"),
        ("train=[basics]", "unknown group 'basics'"),
        ("train=[temporal]", "nothing reaches temporal"),
        ("loop.batch_size=3 loop.accumulate=2", "cannot be cut into equal parts"),
        ("loop.optimizer=adamw8bit", "needs bitsandbytes"),
        ("loop.precision=half", "loop.precision must be"),
        ("noise.zero_terminal_snr=true", "set noise.prediction_type=v_prediction"),
        ("data.prior=kept", "data.prior must be one of"),
        ("crop=12", "crop must be a multiple of 8"),
        ("losses.sure=2", "losses.sure 0 to 1"),
        ("vae=nowhere", "no config.json"),
        ("reference_start=vae", "own or unet"),
    ],
)
def test_what_cannot_be_trained_is_one_line(change, message, data, tmp_path, capsys):
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        pass
    else:
        if "adamw8bit" in change:
            pytest.skip("bitsandbytes is installed")
    assert main(arguments(1, data, tmp_path / "run", *change.split())) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_the_reference_net_begins_as_the_unet():
    torch.manual_seed(0)
    pipeline = load_pipeline(ROOT / "configs" / "model_tiny.yaml")
    start_reference(pipeline)
    unet, own = pipeline.unet.state_dict(), pipeline.reference_net.state_dict()
    shared = [name for name in own if name in unet and own[name].shape == unet[name].shape]
    assert len(shared) >= len(own) - 1 and all(torch.equal(own[name], unet[name]) for name in shared)
    assert torch.equal(own["conv_in.weight"], unet["conv_in.weight"][:, -own["conv_in.weight"].shape[1] :])


def test_the_script_is_not_taken_for_the_package(tmp_path):
    """train/ is first on the path of every script in it, and holds a file called avatar.py."""
    import subprocess
    import sys

    code = f"import sys; sys.path.insert(0, {str(ROOT / 'train')!r}); import avatar.sizes; avatar.__path__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    shown = subprocess.run([sys.executable, ROOT / "train" / "avatar.py", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "accelerate launch" in shown.stdout


def test_signals_are_ours():
    """A file size limit must end in an error and not in a signal, or the full disk above would be no test."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN


def test_latents_of_another_autoencoder_are_refused(tmp_path):
    torch.manual_seed(0)
    clip = synthetic_clip()
    config = experiment(1, tmp_path)
    pipeline, other = starting_pipeline(config), starting_pipeline(config)
    pictures = torch.from_numpy(clip.frames().copy()).permute(0, 3, 1, 2) / 255
    made = latents.encode(pipeline.vae, pictures).numpy().astype(np.float16)
    with ShardWriter(tmp_path) as writer:
        meta = {**clip.meta, "networks": {"vae": "AutoencoderKL:0123"}}
        writer.write(replace(clip, latents=made, meta=meta))
    data = AvatarWindows([ShardFolder(tmp_path)], "train", window_shape(config, pipeline), config.conditions, None)
    check_latents(pipeline, data)
    with pytest.raises(ValueError, match="AutoencoderKL:0123, not by this model"):
        check_latents(other, data)
