"""The whole pipeline on the `tiny` model: modes, guidance, windows, streaming, saving, refusals.

The golden slices pin 16 numbers of each mode's last frame. They change when a network's arithmetic, an
initialisation, the drawing of pose maps or the order of random draws changes on purpose. To renew them: make sure that
all other tests of this file and of the networks pass, run `python -m pytest tests/avatar/test_pipeline.py -k golden`,
copy the numbers that the failures print into GOLDEN, and say in the commit why they moved.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_conditions import person
from torch import Tensor, nn

from avatar.build import load_pipeline
from avatar.pipeline import AvatarPipeline
from avatar.resume import WindowState
from avatar.sampling import Guidance
from avatar.settings import Progress
from avatar.warp.prior import Prior
from pose.keypoints import Keypoints

TINY = Path(__file__).resolve().parents[2] / "configs" / "model_tiny.yaml"
SIZE = (64, 64)
FRAMES = 10  # with windows of 4: two whole ones and a short one
PLAIN = Guidance(1.0, 1.0)

# In ten-thousandths.
GOLDEN = {
    "audio": "5550 5796 5678 5493 6100 5880 6339 4391 6014 3590 6023 4825 6592 3396 6767 4895",
    "video": "5549 5803 5676 5493 6100 5886 6332 4383 6015 3585 6024 4828 6594 3366 6748 4899",
    "hybrid": "5550 5797 5678 5492 6101 5879 6341 4394 6015 3577 6029 4823 6588 3390 6771 4899",
    "guided": "5540 5864 5669 5534 6120 6202 6313 4145 5966 3606 6012 5311 6488 3735 6502 4863",
    "prior": "0 0 5510 5704 2510 2510 6395 3989 5020 5020 5774 4961 7529 7529 5481 5713",
    "stride": "0 0 4939 5716 2510 2510 5802 5277 5020 5020 5912 5479 7529 7529 8628 5219",
}


def liven(module: nn.Module) -> None:
    """Random values in place of zero-initialised ends, so that every condition reaches the picture."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[AvatarPipeline]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = load_pipeline(TINY)
    liven(made.unet)
    liven(made.pose_encoder)
    for parameter in made.pose_encoder.parameters():
        parameter.data *= 2  # its seven layers would leave little of a picture
    made.set_progress_bar_config(disable=True)
    yield made
    torch.set_num_threads(threads)


def reference() -> Keypoints:
    return person(1).resized(SIZE)


def driving(frames: int = FRAMES, seed: int = 0) -> Keypoints:
    moved = person(frames).resized(SIZE)
    moved.points[:] += np.random.default_rng(seed).normal(0, 1, (frames, 1, 2)).astype(np.float32)
    return moved


def image() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([rows * 4 % 256, columns * 4 % 256, (rows + columns) * 2 % 256], axis=-1).astype(np.uint8)


def speech(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, frames * 640).astype(np.float32)


def prior(frames: int = FRAMES) -> Prior:
    """The photo with a patch that wanders, sure on the left half alone."""
    pictures = torch.from_numpy(image()).permute(2, 0, 1).repeat(frames, 1, 1, 1) / 255
    for frame in range(frames):
        pictures[frame, :, 30:40, 20 + frame : 30 + frame] = 1
    confidence = torch.zeros(frames, 1, *SIZE)
    confidence[..., :32] = 1
    return Prior(pictures, confidence)


def run(pipeline: AvatarPipeline, **options) -> Tensor:
    options = {"audio": speech(), "guidance": PLAIN, "steps": 1, **options}
    generator = torch.Generator().manual_seed(1)
    return pipeline(image(), reference(), generator=generator, **options).frames


def calls(pipeline: AvatarPipeline, **options) -> int:
    """U-Net calls of a run, counted by a forward hook."""
    counted: list[int] = []
    handle = pipeline.unet.register_forward_hook(lambda *_: counted.append(1))
    try:
        run(pipeline, **options)
    finally:
        handle.remove()
    return len(counted)


# Golden slices

MODES = {
    "audio": {"condition": "box"},
    "video": {"keypoints": driving(), "condition": "body"},
    "hybrid": {"keypoints": driving(), "condition": "hands"},
    "guided": {"condition": "none", "guidance": Guidance(2.5, 4.5)},
    "prior": {"keypoints": driving(), "prior": prior(), "strength": 0.5},
    "stride": {"keypoints": driving(), "prior": prior(), "strength": 0.5, "frame_stride": 2},
}


@pytest.mark.parametrize("mode", MODES)
def test_golden_slice(pipeline, mode):
    frames = run(pipeline, **{"steps": 2, **MODES[mode]})
    assert frames.shape == (FRAMES, 3, *SIZE) and frames.min() >= 0 and frames.max() <= 1
    got = [round(value * 10000) for value in frames[-1, 0, ::16, 2::16].flatten().tolist()]
    assert got == pytest.approx([int(value) for value in GOLDEN[mode].split()], abs=5), " ".join(map(str, got))


# What reaches the picture


@pytest.mark.parametrize(
    "change",
    [
        {"audio": speech(seed=5)},
        {"audio": None},
        {"condition": "none"},
        {"movement_box": np.array([5, 5, 60, 60], np.float32)},
        {"hand_clarity": -1.0},
        {"hand_clarity": (1.28, -1.0)},
        {"keypoints": driving()},
        {"guidance": Guidance(2.5, 1.0)},
        {"guidance": Guidance(1.0, 4.5)},
    ],
)
def test_every_control_reaches_the_picture(pipeline, change):
    assert not torch.allclose(run(pipeline, frames=4), run(pipeline, **{"frames": 4, **change}), atol=1e-5)


def test_strength_0_is_the_prior_itself(pipeline):
    given = prior()
    assert torch.equal(run(pipeline, prior=given, strength=0.0), given.frames)
    assert calls(pipeline, prior=given, strength=0.0) == 0


def test_sure_pixels_are_the_priors_unless_the_composite_is_off(pipeline):
    given = prior()
    mixed = run(pipeline, prior=given, strength=0.5)
    torch.testing.assert_close(mixed[..., :32], given.frames[..., :32])
    assert not torch.allclose(mixed[..., 32:], given.frames[..., 32:], atol=1e-2)
    assert not torch.allclose(run(pipeline, prior=given, strength=0.5, composite=False)[..., :32], mixed[..., :32])


# Guidance


@pytest.mark.parametrize(
    ("guidance", "passes"), [(PLAIN, 1), (Guidance(2.5, 4.5), 3), (Guidance(1.0, 4.5), 2), (Guidance(2.5, 2.5), 2)]
)
def test_one_call_a_step_and_pass(pipeline, guidance, passes):
    windows = 3
    assert calls(pipeline, guidance=guidance, steps=2) == windows * 2 * passes


def test_guidance_outside_its_interval_costs_nothing(pipeline):
    assert calls(pipeline, guidance=Guidance(2.5, 4.5, (0.5, 1.0)), steps=2, frames=4) == 1 + 3


# Windows


@pytest.mark.parametrize("cut", [1, 3])
def test_stream_equals_whole_however_the_inputs_are_cut(pipeline, cut):
    sound, moves, given = speech(), driving(), prior()
    whole = run(pipeline, keypoints=moves, prior=given, strength=0.5)
    starts = range(0, FRAMES, cut)
    stream = pipeline.stream(
        image(),
        reference(),
        audio=(sound[i : i + 500] for i in range(0, len(sound), 500)),
        keypoints=(moves[slice(i, i + cut)] for i in starts),
        prior=(Prior(given.frames[i : i + cut], given.confidence[i : i + cut]) for i in starts),
        strength=0.5,
        steps=1,
        guidance=PLAIN,
        generator=torch.Generator().manual_seed(1),
    )
    parts = list(stream)
    assert [len(part) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat(parts), whole)


def test_windows_equal_one_long_pass_where_frames_do_not_look_at_each_other(pipeline):
    """Without temporal attention a window border cannot matter: noise, tokens and pose maps are the frame's own."""
    torch.manual_seed(0)
    still = load_pipeline(TINY)
    for name, module in still.unet.named_modules():
        if name.endswith(("motion_modules.0", "motion_modules.1")):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    for regions in still.unet.region_layers.values():
        for region in regions.values():
            nn.init.zeros_(region.temporal.to_v.weight)  # its queries count frames within a window
    short = run(still, keypoints=driving(), steps=2)
    still.register_to_config(window=FRAMES)
    torch.testing.assert_close(run(still, keypoints=driving(), steps=2), short, atol=1e-4, rtol=1e-4)


def test_motion_frames_carry_the_last_window_on(pipeline):
    """The second window's frames depend on the first window's latents, and the first window's on nothing before."""
    usual = run(pipeline)
    early = speech()
    early[: 3 * 640] = 0  # heard by frames 0 to 4, with their neighbours'
    changed = (run(pipeline, audio=early) - usual).abs().amax((1, 2, 3))
    assert (changed[8:] > 1e-6).all()  # far beyond what the audio window reaches


def test_a_video_of_one_frame(pipeline):
    assert run(pipeline, frames=1).shape == (1, 3, *SIZE)


@pytest.mark.parametrize("stride", [2, 3])
def test_stride_generates_every_kth_frame(pipeline, stride):
    options = {"keypoints": driving(), "prior": prior(), "strength": 0.5, "frame_stride": stride}
    seen: list[Progress] = []
    frames = run(pipeline, on_progress=seen.append, **options)
    assert len(frames) == FRAMES and sum(one.frames for one in seen) == -(-FRAMES // stride)
    torch.testing.assert_close(frames[..., :32], prior().frames[..., :32])


def test_progress_is_told_step_by_step(pipeline):
    seen: list[Progress] = []
    run(pipeline, steps=2, frames=5, on_progress=seen.append)
    assert seen == [Progress(0, 4, 1, 2), Progress(0, 4, 2, 2), Progress(4, 1, 1, 2), Progress(4, 1, 2, 2)]


def test_inputs_are_read_as_they_are_needed(pipeline):
    """Memory stays flat: after the first window no more was read than that window and one chunk."""
    read = {"keypoints": 0, "prior": 0}
    moves, given = driving(60), prior(60)

    def counted(name: str, parts: Iterator) -> Iterator:
        for part in parts:
            read[name] += len(part)
            yield part

    stream = pipeline.stream(
        image(),
        reference(),
        keypoints=counted("keypoints", (moves[slice(i, i + 2)] for i in range(0, 60, 2))),
        prior=counted("prior", (Prior(given.frames[i : i + 2], given.confidence[i : i + 2]) for i in range(0, 60, 2))),
        steps=1,
        strength=0.5,
        guidance=PLAIN,
    )
    next(stream)
    assert max(read.values()) <= 4 + 2


# Life cycle


def test_saved_pipeline_is_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    loaded = AvatarPipeline.from_pretrained(tmp_path)
    assert loaded.config.window == 4 and loaded.config.reference_guidance == pipeline.config.reference_guidance
    # Not bit for bit: a kernel's order of sums depends on where in memory the weights lie.
    torch.testing.assert_close(run(loaded), run(pipeline), atol=1e-5, rtol=0)


def test_half_precision_runs(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    half = AvatarPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.unet.dtype == half.audio_encoder.dtype == torch.bfloat16
    torch.testing.assert_close(run(half, steps=2), run(pipeline, steps=2), atol=0.1, rtol=0)


def test_offload_and_group_offload_change_nothing(pipeline):
    usual = run(pipeline, frames=5)
    torch.manual_seed(0)
    offloaded = load_pipeline(TINY)
    offloaded.unet.load_state_dict(pipeline.unet.state_dict())
    offloaded.pose_encoder.load_state_dict(pipeline.pose_encoder.state_dict())
    with pytest.raises(ValueError, match="leaf_level"):
        offloaded.enable_group_offload(torch.device("cpu"))
    offloaded.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(run(offloaded, frames=5), usual, atol=1e-5, rtol=0)


def test_group_offload_by_leaves_changes_nothing(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    offloaded = AvatarPipeline.from_pretrained(tmp_path)
    offloaded.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    given = {"frames": 5, "guidance": Guidance(2.5, 4.5)}
    torch.testing.assert_close(run(offloaded, **given), run(pipeline, **given), atol=1e-5, rtol=0)


def test_attention_backend_is_set_for_the_work_alone(pipeline):
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()[0]
    stream = pipeline.stream(
        image(), reference(), frames=5, steps=1, guidance=PLAIN, attention_backend="_native_math",
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    first = next(stream)
    assert _AttentionBackendRegistry.get_active_backend()[0] == before
    torch.testing.assert_close(first, run(pipeline, audio=None, frames=5)[:4], atol=1e-4, rtol=1e-4)


def test_foreign_weights_and_pickles_are_refused(pipeline, tmp_path):
    from safetensors.torch import load_file, save_file

    pipeline.save_pretrained(tmp_path)
    for part in ("unet", "vae"):
        path = tmp_path / part / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        save_file({**weights, "stranger.weight": torch.zeros(1)}, path, {"format": "pt"})
        with pytest.raises(ValueError, match="stranger.weight"):
            AvatarPipeline.from_pretrained(tmp_path)
        torch.save(weights, tmp_path / part / "diffusion_pytorch_model.bin")
        path.unlink()
        with pytest.raises(ValueError, match="pickled|Pickled"):
            AvatarPipeline.from_pretrained(tmp_path)
        save_file(weights, path, {"format": "pt"})
    with pytest.raises(ValueError, match="model_index.json"):
        AvatarPipeline.from_pretrained(tmp_path / "unet" / "nowhere")


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "legs"}, "unknown condition kind 'legs'"),
        ({"condition": "body"}, "needs keypoints"),
        ({"strength": 0.5}, "start from the prior and none was given"),
        ({"frame_stride": 2}, "start from the prior and none was given"),
        ({"strength": 1.5}, "strength must be 0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"frame_stride": 0}, "at least 1, got 4 and 0"),
        ({"face_embedding": torch.zeros(1, 512)}, "takes a face crop"),
        ({"audio": np.zeros((2, 640), np.float32)}, "mix it down"),
        ({"keypoints": driving().resized((128, 128))}, "Keypoints.resized"),
    ],
)
def test_bad_input_says_what_to_do(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        run(pipeline, **options)


@pytest.mark.parametrize(
    ("picture", "points", "message"),
    [
        (image().astype(np.float32), reference(), "must be uint8"),
        (image()[:60], reference(), "multiples of 16"),
        (image(), driving(2), "one frame of keypoints"),
        (image(), reference().resized((128, 128)), "detect on the working image"),
    ],
)
def test_photo_and_reference_must_fit(pipeline, picture, points, message):
    with pytest.raises(ValueError, match=message):
        pipeline.stream(picture, points, audio=speech())


def test_nan_stops_the_run_and_names_the_step(pipeline):
    torch.manual_seed(0)
    broken = load_pipeline(TINY)
    counted: list[int] = []

    def spoil(module: nn.Module, inputs: object, output) -> None:
        counted.append(1)
        if len(counted) == 4:  # the second step of the second window
            output.sample[0, 0, 0, 0, 0] = torch.nan

    broken.unet.register_forward_hook(spoil)
    with pytest.raises(ValueError, match="after step 2 of 2 of the window at frame 4"):
        run(broken, steps=2)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_run_taken_up_at_a_window_ends_with_the_same_frames(pipeline, stride, tmp_path):
    sound, moves, given = speech(), driving(), prior()
    states: list[WindowState] = []

    def made(**options) -> Iterator[Tensor]:
        return pipeline.stream(
            image(), reference(), audio=sound, strength=0.5, steps=1, guidance=PLAIN, frame_stride=stride,
            generator=torch.Generator().manual_seed(1), **options,
        )  # fmt: skip

    whole = torch.cat(list(made(keypoints=moves, prior=given, on_window=states.append)))
    assert [state.frame for state in states] == [*range(0, FRAMES, 4 * stride), FRAMES]
    states[1].save(tmp_path / "state.safetensors")
    state = WindowState.load(tmp_path / "state.safetensors")
    assert state.finished == 4 * stride - (stride - 1)
    rest = slice(state.frame, FRAMES)
    again = made(keypoints=moves[rest], prior=Prior(given.frames[rest], given.confidence[rest]), start=state)
    torch.testing.assert_close(torch.cat(list(again)), whole[state.finished :], rtol=0, atol=0)
    # What a window continues matters: the same frames from nothing are others.
    fresh = made(keypoints=moves[rest], prior=Prior(given.frames[rest], given.confidence[rest]))
    assert not torch.equal(torch.cat(list(fresh)), whole[state.frame :])
    (tmp_path / "state.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="no state of an interrupted run"):
        WindowState.load(tmp_path / "state.safetensors")
    with pytest.raises(OSError, match="could not write"):
        state.save(tmp_path / "missing" / "state.safetensors")
