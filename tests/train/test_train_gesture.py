"""Training end to end: each system from its file, resuming after a kill, what cannot be trained."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from infer.gesture import main as infer
from pose.bvh import read_bvh
from pose.motion import Motion
from pose.pipeline import GesturePipeline
from pose.speech import speech_features
from train.codec import main as train_codec
from train.gesture import main as train

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = {
    "diffuse_style": ["model.width=32", "model.style_width=8", "model.layers=1", "model.frames=44"],
    "diff_gesture": ["model.width=32", "model.blocks=1", "model.context=5"],
    "holistic": ["model.width=32", "model.layers=1", "model.frames=30", "model.seed_frames=4"],
}


def arguments(system, corpus, out, *changes):
    shared = [
        "preset=small", f"data.folder={corpus}", f"data.cache={out / 'cache'}", "data.stride=8", "loop.batch_size=4",
        "loop.log_every=1", "loop.checkpoint_every=3", "loop.steps=6", "loop.videos=0", "loop.validation_batches=1",
        f"loop.output={out / 'run'}", "loop.warmup=0",
    ]  # fmt: skip
    return [str(ROOT / "configs" / f"gesture_{system}.yaml"), *shared, *SYSTEMS.get(system, []), *changes]


def losses(run):
    return [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]


def test_diffuse_style_to_the_end(corpus, tmp_path, capsys):
    """Train, look at the folder, make a video, BVH and motion of speech by the command."""
    run = tmp_path / "run"
    assert (
        train(
            arguments("diffuse_style", corpus, tmp_path, "loop.videos=1", "loop.video_seconds=2", "loop.keep_last=1")
        )
        == 0
    )
    assert "best checkpoint" in capsys.readouterr().out
    logged = losses(run)
    assert [line["step"] for line in logged if "loss" in line] == [1, 2, 3, 4, 5, 6]
    built, estimated, *checked = (line for line in logged if "loss" not in line)
    assert estimated["estimated/loss"] < built["validation/loss"]
    assert [line["step"] for line in checked if "validation/loss" in line] == [3, 6]
    assert (run / "last").resolve().name == "step_00000006" and list((run / "tensorboard").iterdir())
    assert len(list((run / "videos").glob("*.mp4"))) == 1
    sound = next((corpus / "1").glob("*.wav"))
    outputs = [tmp_path / f"talk{suffix}" for suffix in (".mp4", ".bvh", ".npz")]
    command = ["--model", str(run / "best"), "--audio", str(sound), "--output", *map(str, outputs), "--steps", "2"]
    assert infer([*command, "--style", "happiness=1.5", "--speaker", "1"]) == 0
    motion = Motion.load(outputs[2])
    assert (motion.fps, len(motion)) == (20.0, 70) and outputs[0].stat().st_size > 1000
    np.testing.assert_allclose(read_bvh(outputs[1]).rotations, motion.rotations, atol=1e-4)
    assert infer([*command, "--style", "joy"]) == 2
    assert "this model knows anger, happiness, neutral, sadness" in capsys.readouterr().err


@pytest.mark.parametrize("system", ["diff_gesture", "holistic"])
def test_system_trains_and_samples(system, corpus, tmp_path, babble):
    assert train(arguments(system, corpus, tmp_path, "loop.steps=2", "loop.checkpoint_every=2")) == 0
    pipeline = GesturePipeline.from_pretrained(tmp_path / "run" / "best")
    logged = losses(tmp_path / "run")
    assert len(logged) == 5 and np.isfinite(logged[-1]["validation/loss"])
    if system == "holistic":
        assert {"gesture", "expression", "share_gesture", "sigma_expression"} <= set(logged[2])
        state = load_file(tmp_path / "run" / "best" / "uncertainty" / "diffusion_pytorch_model.safetensors")
        assert state["log_sigma"].abs().min() > 0  # the weights move
    motion = pipeline(speech_features(babble(3.0), pipeline.fps), steps=2).motions[0]
    assert len(motion) == 45 and np.isfinite(motion.rotations).all()


def test_codec_then_fine_gesture(corpus, tmp_path):
    small = ["model.width=16", "model.latent_dim=8", "model.codes=16"]
    changes = ["loop.steps=2", "loop.checkpoint_every=2", "revive_every=1"]
    assert train_codec(arguments("codec", corpus, tmp_path / "codec", *small, *changes)) == 0
    best = tmp_path / "codec" / "run" / "best"
    mean = load_file(best / "codec" / "diffusion_pytorch_model.safetensors")["latent_mean"]
    assert mean.abs().max() > 0
    fine = ["model.width=32", "model.layers=1", "loop.steps=2", "loop.checkpoint_every=2", f"codec={best}"]
    assert train(arguments("fine_gesture", corpus, tmp_path, *fine)) == 0
    pipeline = GesturePipeline.from_pretrained(tmp_path / "run" / "best")
    assert torch.equal(pipeline.codec.latent_mean, mean)


KILLED = """
import os, signal, sys
import train.loop
log = train.loop._log
def log_then_die(accelerator, output, step, values):
    log(accelerator, output, step, values)
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train.loop._log = log_then_die
from train.gesture import main
main(sys.argv[1:])
"""


def test_killed_and_resumed_is_as_if_never_killed(corpus, tmp_path):
    """kill -9 after step 5, the last checkpoint at 3: the same command gives the same losses and weights."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(arguments("diffuse_style", corpus, whole)) == 0
    command = [sys.executable, "-c", KILLED, *arguments("diffuse_style", corpus, killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert len(losses(killed / "run")) == 8
    # A checkpoint that was being written and a log line cut in half are left behind too.
    (killed / "run" / "checkpoints" / ".step_00000006.part").mkdir()
    with open(killed / "run" / "losses.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    assert train(arguments("diffuse_style", corpus, killed)) == 0
    one, other = losses(whole / "run"), losses(killed / "run")
    assert [line["step"] for line in one] == [line["step"] for line in other]
    for a, b in zip(one, other, strict=True):
        assert a == b
    assert not list((killed / "run" / "checkpoints").glob(".*"))
    for part in ("model", "training"):
        name = "diffusion_pytorch_model.safetensors" if part == "model" else "model.safetensors"
        a, b = (load_file(folder / "run" / "last" / part / name) for folder in (whole, killed))
        assert all(torch.equal(a[key], b[key]) for key in a)
    # Longer is allowed, other settings are not.
    assert train(arguments("diffuse_style", corpus, killed, "loop.learning_rate=1")) == 2
    # All but the best and the last two are gone.
    assert len(list((killed / "run" / "checkpoints").iterdir())) <= 3


@pytest.mark.parametrize(
    "change,message",
    [
        ("data.speakers=[7]", "it has 1"),
        ("data.folder=nowhere", "no such folder"),
        ("data.feature_set=wavlm", "speech_model"),
        ("data.feature_set=wave", "unknown feature set"),
        ("representation.kind=matrices", "unknown representation"),
        ("representation.options.fast=1", "representation.options"),
        ("model.depth=3", "model: "),
        ("model.frames=330", "as long as a window"),
    ],
)
def test_what_cannot_be_trained_is_one_line(change, message, corpus, tmp_path, capsys):
    assert train(arguments("diffuse_style", corpus, tmp_path, "data.speech_model=null", change)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
