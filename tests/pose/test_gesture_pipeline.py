"""The gesture pipeline with tiny networks of each system: lengths, cuts, seams, styles, key frames, saving."""

import numpy as np
import pytest
import torch

from pose.models.diff_gesture import DiffGesture
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.fine_gesture import FineGesture
from pose.models.holistic import HolisticDiffusion
from pose.models.motion_codec import MotionCodec
from pose.motion import Motion
from pose.pipeline import GesturePipeline, Keyframes
from pose.representations.beat import MatrixVectors
from pose.representations.directions import DirectionVectors
from pose.representations.joints import JointVectors
from pose.representations.zeroeggs import RootSpaceVectors
from pose.rotations import axis_angle_to_matrix
from pose.sampling import SCHEDULERS, Stabilizer, scheduler_for
from pose.skeleton import Skeleton
from pose.speech import SpeechFeatures

JOINTS = ("Spine", "Head", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm")
FRAMES = 47
TRUNK = {"width": 32, "speech_width": 8, "layers": 1, "heads": 2, "local_heads": 2, "feedforward": 32}
WINDOW = {"frames": 16, "seed_frames": 4}
STYLES = ["happy", "sad"]


def speech(fps: float, frames: int = FRAMES) -> SpeechFeatures:
    random = np.random.default_rng(0)

    def values(width, low=0.0, high=1.0):
        return random.uniform(low, high, (frames, width)).astype(np.float32)

    blocks = {"energy": values(1), "pitch": values(1, -4, 4), "onset": values(1), "speech": values(1)}
    blocks["mel"] = values(64, -60, 0)
    return SpeechFeatures(fps, blocks, values(1).repeat(round(16000 / fps) + 1)[: round(frames * 16000 / fps)] - 0.5)


def motion(fps: float, frames: int = 12, seed: int = 0) -> Motion:
    random = np.random.default_rng(seed)
    skeleton = Skeleton.home()
    rotations = skeleton.rest_rotations(frames)
    columns = [skeleton.index(name) for name in JOINTS]
    rotations[:, columns] = axis_angle_to_matrix(random.normal(size=(frames, len(JOINTS), 3)) * 0.3)
    root = np.tile([0.0, 93.0, 0.0], (frames, 1)).astype(np.float32)
    return Motion(fps, skeleton, rotations, root, random.uniform(size=(frames, 51)).astype(np.float32))


def build(system: str, scheduler: str = "ddim", **changes) -> GesturePipeline:
    torch.manual_seed(0)
    joints = JointVectors(20.0, JOINTS, expression=system != "diff")
    codec, feature_set, names = None, "acoustic", {"styles": STYLES}
    if system == "style":
        model = DiffuseStyleGesture(joints.dim, 109, 2, **WINDOW, **TRUNK, style_width=8)
    elif system == "style-1141":
        joints = RootSpaceVectors()
        model = DiffuseStyleGesture(joints.dim, 109, 2, **WINDOW, **TRUNK, style_width=8)
    elif system == "holistic":
        joints = MatrixVectors(30.0, expression=True)
        model = HolisticDiffusion(2052, 153, speech_dim=410, style_dim=2, **WINDOW, **TRUNK)
        feature_set, names = "acoustic_words", {"speakers": ["2", "4"]}
    elif system == "diff":
        joints = DirectionVectors(hands=True)
        model = DiffGesture(joints.dim, 0, **WINDOW, width=16, blocks=1, heads=2)
        feature_set, names = None, {}
    else:
        codec = MotionCodec(joints.dim, 8, 32, 16)  # 32 codes
        model = FineGesture(8, 2, **WINDOW, width=16, speech_width=8, layers=1, heads=2)
        feature_set, names = None, {"speakers": ["2", "4"]}
    clips = [motion(joints.config.fps, 30, seed) for seed in range(3)]
    joints.fit([joints.raw(clip) for clip in clips])
    if codec is not None:
        vectors = torch.stack([joints.encode(clip) for clip in clips])
        codec.fit_latents([vectors])
        codec.revive(codec(vectors).latents, torch.ones(32, dtype=torch.bool), torch.Generator().manual_seed(0))
        codec.decoder[-1].weight.data.mul_(20.0)
    for value in model.parameters():  # away from weights that start at zero
        value.data.add_(0.02 * torch.randn_like(value))
    # Untrained networks say little: louder heads, so that every condition shows.
    heads = [model.pose_out] if isinstance(model.pose_out, torch.nn.Linear) else model.pose_out.modules()
    for head in heads:
        if isinstance(head, torch.nn.Linear):
            head.weight.data.mul_(2.0)
    settings = {"feature_set": feature_set, **names, "steps": 4, "clip": 4.0, **changes}
    return GesturePipeline(model, scheduler_for(scheduler, model), joints, codec, **settings)


def array(result: Motion) -> np.ndarray:
    parts = [result.rotations.reshape(len(result), -1), result.root_position]
    return np.concatenate(parts + ([] if result.expression is None else [result.expression]), 1)


SYSTEMS = ("style", "style-1141", "holistic", "diff", "fine")


@pytest.mark.parametrize("system", SYSTEMS)
class TestEverySystem:
    def test_length_and_validity(self, system):
        pipeline = build(system)
        for frames in (1, 12, 13, FRAMES):
            result = pipeline(speech(pipeline.fps, frames)).motions[0]
            assert len(result) == frames and result.fps == pipeline.fps
            unit = np.swapaxes(result.rotations, -1, -2) @ result.rotations
            np.testing.assert_allclose(unit, np.broadcast_to(np.eye(3), unit.shape), atol=1e-5)
            assert result.expression is None or (result.expression.min() >= 0 and result.expression.max() <= 1)

    def test_stream_is_the_whole_whatever_the_cut(self, system):
        pipeline = build(system)
        sound = speech(pipeline.fps)
        whole = pipeline(sound, seeds=(3,)).motions[0]
        pieces = list(pipeline.stream((sound[k : k + 5] for k in range(0, FRAMES, 5)), seed=3))
        assert len(pieces) == 5 and max(len(piece) for piece in pieces) <= 12
        np.testing.assert_allclose(array(Motion.concatenated(pieces)), array(whole), atol=1e-5)

    def test_seeds(self, system):
        pipeline = build(system)
        first, again, other = pipeline(speech(pipeline.fps), seeds=(1, 1, 2)).motions
        np.testing.assert_allclose(array(first), array(again), atol=1e-6)
        assert np.abs(array(first) - array(other)).max() > 0.01
        alone = pipeline(speech(pipeline.fps), seeds=(2,)).motions[0]
        np.testing.assert_allclose(array(alone), array(other), atol=1e-3)

    def test_saving(self, system, tmp_path):
        pipeline = build(system)
        pipeline.save_pretrained(tmp_path)
        loaded = GesturePipeline.from_pretrained(tmp_path)
        sound = speech(pipeline.fps, 20)
        np.testing.assert_allclose(array(loaded(sound).motions[0]), array(pipeline(sound).motions[0]), atol=1e-4)
        assert loaded.config.styles == pipeline.config.styles

    def test_keyframes_are_passed_through(self, system):
        pipeline = build(system)
        poses = motion(pipeline.fps, 2, seed=9)
        poses = pipeline.representation.decode(pipeline.representation.encode(poses))  # what it can show
        for stitching in ("crossfade", "outpaint"):
            keyframes = Keyframes(poses, (5, 14))  # 14: in the overlap of two windows
            result = pipeline(speech(pipeline.fps), keyframes=keyframes, stitching=stitching).motions[0]
            np.testing.assert_allclose(result.rotations[[5, 14]], poses.rotations, atol=2e-3)


def test_first_motion_comes_early():
    """Only F - S frames of speech are asked for before the first piece."""
    pipeline, asked = build("style"), []

    def source():
        sound = speech(20.0, 200)
        for k in range(0, 200, 4):
            asked.append(k + 4)
            yield sound[k : k + 4]

    stream = pipeline.stream(source())
    assert len(next(stream)) == 8 and asked[-1] == 12 == round(pipeline.latency_s * 20)
    assert len(next(stream)) == 12 and asked[-1] == 24


@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler(name):
    pipeline = build("style", name)
    assert len(pipeline(speech(20.0, 20), steps=3).motions[0]) == 20


def test_own_schedule_runs_whole():
    """steps=None is the published way: as many evaluations as training has steps."""
    pipeline = build("style", "ddpm", steps=None)
    calls = []
    pipeline.model.trunk.register_forward_hook(lambda *_: calls.append(1))
    pipeline(speech(20.0, 5))
    assert len(calls) == 1000


class TestStyle:
    def test_one_is_plain(self):
        pipeline, sound = build("style"), speech(20.0, 20)
        plain = array(pipeline(sound, style="happy").motions[0])
        guided = array(pipeline(sound, style="happy", guidance=1.0, against="sad").motions[0])
        np.testing.assert_array_equal(plain, guided)

    def test_guidance_and_mixing_move_the_motion(self):
        """γ = 0 away from a style is that style; weights and γ between lie off both."""
        pipeline, sound = build("style"), speech(20.0, 12)
        happy, sad = (array(pipeline(sound, style=style).motions[0]) for style in STYLES)
        zero = array(pipeline(sound, style="happy", against="sad", guidance=0.0).motions[0])
        np.testing.assert_allclose(zero, sad, atol=1e-4)
        more = array(pipeline(sound, style="happy", guidance=3.0).motions[0])
        half = array(pipeline(sound, style="happy", against="sad", guidance=0.5).motions[0])
        blend = array(pipeline(sound, style={"happy": 0.5, "sad": 0.5}).motions[0])
        stronger = array(pipeline(sound, style={"happy": 1.5}).motions[0])
        for result in (more, half, blend, stronger):
            assert min(np.abs(result - happy).max(), np.abs(result - sad).max()) > 1e-3

    def test_names(self):
        pipeline = build("holistic")
        assert pipeline.style_vector(speaker=4).tolist() == [0, 1]
        assert pipeline.style_vector(speaker={"2": 0.25, "4": 0.75}).tolist() == [0.25, 0.75]
        assert pipeline.style_vector().tolist() == [0, 0]
        with pytest.raises(ValueError, match="unknown speaker '7'; this model knows 2, 4"):
            pipeline(speech(30.0), speaker=7)
        with pytest.raises(ValueError, match="unknown style 'old'; this model knows happy, sad"):
            build("style")(speech(20.0), style="old")
        with pytest.raises(ValueError, match="this model knows none"):
            build("diff").style_vector(style="happy")


class TestSeams:
    def test_crossfade_is_continuous(self):
        """Across joins no frame moves further than the blend of two windows lets it."""
        pipeline = build("style")
        pipeline.representation.deviation.fill_(0.01)  # small motion: vectors and rotations go along
        result = pipeline(speech(20.0, 200)).motions[0]
        speed = np.abs(np.diff(pipeline.representation.raw(result), axis=0)).mean(1)
        joins = np.zeros(199, bool)
        for start in range(8, 196, 12):
            joins[start - 1 : start + 5] = True
        assert speed[joins].mean() < 1.5 * speed[~joins].mean()

    def test_seed_motion_leads_in(self):
        """What goes before the first frame changes it; painting out of it brings the first frame nearer."""
        pipeline = build("style")
        pose = motion(20.0, 1, seed=5)
        sound = speech(20.0, 20)
        free = array(pipeline(sound).motions[0])
        led = array(pipeline(sound, seed_motion=pose).motions[0])
        painted = pipeline(sound, seed_motion=pose, stitching="outpaint").motions[0]
        assert np.abs(free - led).max() > 1e-3 and np.abs(array(painted) - led).max() > 1e-3

    def test_smoothing_smooths(self):
        pipeline = build("style")
        rough = pipeline(speech(20.0)).motions[0]
        smooth = pipeline(speech(20.0), smooth=True).motions[0]
        assert len(smooth) == FRAMES

        def jerk(result):
            return np.abs(np.diff(result.rotations, n=3, axis=0)).mean()

        assert jerk(smooth) < 0.3 * jerk(rough)
        streamed = Motion.concatenated(list(pipeline.stream(speech(20.0), smooth=True)))
        np.testing.assert_allclose(array(streamed), array(smooth), atol=1e-5)


def test_stabilizer_reaches_the_sampling():
    pipeline = build("diff", "ddpm", steps=60)
    plain = array(pipeline(speech(15.0, 12)).motions[0])
    steady = array(pipeline(speech(15.0, 12), stabilizer=Stabilizer("hard", 100)).motions[0])
    assert np.abs(np.diff(plain, axis=0)).mean() > np.abs(np.diff(steady, axis=0)).mean()
    with pytest.raises(ValueError, match="adds none"):
        build("diff")(speech(15.0, 12), stabilizer=Stabilizer())


def test_training_mode_is_left_as_it_was():
    pipeline = build("style")
    pipeline.model.train()
    first = array(pipeline(speech(20.0, 12)).motions[0])
    assert pipeline.model.training
    np.testing.assert_array_equal(first, array(pipeline(speech(20.0, 12)).motions[0]))


def test_parts_that_do_not_fit_are_named():
    pipeline = build("style")
    model, scheduler, joints = pipeline.model, pipeline.scheduler, pipeline.representation
    with pytest.raises(ValueError, match="141 numbers a frame, the model takes 90"):
        GesturePipeline(model, scheduler, JointVectors.beat_euler(), styles=STYLES)
    with pytest.raises(ValueError, match="hears 109 numbers a frame, the feature set 'wavlm' has 1024"):
        GesturePipeline(model, scheduler, joints, feature_set="wavlm", styles=STYLES)
    with pytest.raises(ValueError, match="hears features, got feature_set=None"):
        GesturePipeline(model, scheduler, joints, feature_set=None, styles=STYLES)
    with pytest.raises(ValueError, match="knows 2 styles and speakers, got names of 0 and 0"):
        GesturePipeline(model, scheduler, joints)


def test_wrong_choices_are_named(tmp_path):
    pipeline = build("style")
    with pytest.raises(ValueError, match="crossfade, outpaint, got 'cut'"):
        pipeline(speech(20.0), stitching="cut")
    with pytest.raises(ValueError, match="no seeds"):
        pipeline(speech(20.0), seeds=())
    with pytest.raises(ValueError, match="frame number from 0 for each of 2"):
        Keyframes(motion(20.0, 2), (3,))
    with pytest.raises(ValueError, match="20 fps, got features at 25"):
        pipeline(speech(25.0))
    with pytest.raises(ValueError, match="no gesture pipeline"):
        GesturePipeline.from_pretrained(tmp_path)


def test_smoothing_is_saved_with_the_model_and_can_be_told_otherwise(tmp_path):
    build("style", smooth=15).save_pretrained(tmp_path)
    pipeline = GesturePipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    choices: tuple[dict, ...] = ({}, {"smooth": True}, {"smooth": False}, {"smooth": 5})
    own, fifteen, rough, short = (pipeline(speech(20.0), **choice).motions[0] for choice in choices)
    np.testing.assert_array_equal(array(own), array(fifteen))
    jerk = [np.abs(np.diff(motion.rotations, n=3, axis=0)).mean() for motion in (rough, short, own)]  # not the face
    assert jerk[0] > 1.5 * jerk[1] > 3 * jerk[2]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="not a gesture model but StableDiffusionPipeline"):
        GesturePipeline.from_pretrained(tmp_path)
