"""The video command with a gesture model: an untrained one of the smallest size, and everything it has to refuse."""

from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import soundfile
import torch

from infer.inputs import GESTURES
from infer.run import main
from pose.datasets.mapping import on_home
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.motion import Motion, expression_index
from pose.pipeline import GesturePipeline
from pose.prosody import prosody_motion
from pose.representations.joints import JointVectors
from pose.sampling import scheduler_for
from pose.speech import open_speech, speech_features

ROOT = Path(__file__).resolve().parents[2]
PRESENTER = ROOT / "examples" / "presenter.png"
SIZE = {"width": 32, "speech_width": 8, "layers": 1, "heads": 2, "local_heads": 2, "feedforward": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recording of a second, a model of acoustics and one of WavLM."""
    folder = tmp_path_factory.mktemp("gesture")
    speech, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    soundfile.write(folder / "speech.wav", speech[:rate], rate)
    waveform = next(iter(open_speech(folder / "speech.wav").chunks()))
    vectors = JointVectors(15.0, ("Spine", "LeftArm", "RightArm", "LeftForeArm", "RightForeArm"))
    shown = prosody_motion(speech_features(waveform, 15.0), 3)
    vectors.fit([vectors.raw(shown)])
    for name, width, feature_set in (("model", 109, "acoustic"), ("hears_wavlm", 1024, "wavlm")):
        torch.manual_seed(0)
        model = DiffuseStyleGesture(vectors.dim, width, 4, 16, 4, style_width=8, **SIZE)
        names = {"styles": ["happy", "sad"], "speakers": ["2", "7"]}
        GesturePipeline(
            model, scheduler_for("dpm++", model), vectors, None, feature_set, **names, steps=2, clip=2.0
        ).save_pretrained(folder / name)
    (folder / "other").mkdir()
    (folder / "other" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (folder / "empty").mkdir()
    from transformers import WavLMConfig, WavLMModel

    config = WavLMConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    WavLMModel(config).save_pretrained(folder / "narrow")
    return folder


def command(folder, out, *more):
    shared = ["--image", PRESENTER, "--audio", folder / "speech.wav", "--size", "192", "--model", "none"]
    return [str(part) for part in (*shared, "--output", out, *more)]


def test_video_of_a_gesture_model(folder, tmp_path):
    """The motion is the model's, goes on from the photo's pose, and the face is the speech's."""
    motions = {}
    for name, choice in (("happy", ("--style", "happy=1.5", "--speaker", "7")), ("sad", ("--style", "sad"))):
        out = tmp_path / f"{name}.npz"
        video = tmp_path / f"{name}.mp4"
        given = ("--gesture-model", folder / "model", *choice, "--motion-out", out)
        assert main(command(folder, video, *given)) == 0
        motions[name] = Motion.load(out)
    assert imageio.imread(video).shape[0] == len(motions["sad"]) == 25
    assert not np.allclose(motions["happy"].rotations, motions["sad"].rotations, atol=1e-3)
    # The model makes no face: lips and eyes are those of the speech, the same for both.
    assert motions["happy"].expression.max() > 0.1
    np.testing.assert_array_equal(motions["happy"].expression, motions["sad"].expression)


@pytest.mark.skipif(not GESTURES.is_dir(), reason="no gesture model ships")
def test_what_ships_moves_where_nothing_else_is_named(folder, tmp_path):
    """By default the shipped model with the prosody motion's eyes; `none` is the prosody motion itself."""
    motions = {}
    for name, choice in (
        ("left out", ()),
        ("named", ("--gesture-model", GESTURES)),
        ("none", ("--gesture-model", "none")),
    ):
        out = tmp_path / f"{name}.npz"
        assert main(command(folder, tmp_path / name, *choice, "--motion-out", out)) == 0
        motions[name] = Motion.load(out)
    assert len(motions["left out"]) == len(motions["none"]) == 25
    np.testing.assert_array_equal(motions["left out"].rotations, motions["named"].rotations)
    np.testing.assert_array_equal(motions["left out"].expression, motions["named"].expression)
    assert np.abs(motions["left out"].rotations - motions["none"].rotations).max() > 0.1
    jaw, blink, brow = (expression_index(name) for name in ("jawOpen", "eyeBlinkLeft", "browInnerUp"))
    made, rule = motions["left out"].expression, motions["none"].expression
    assert np.corrcoef(made[:, jaw], rule[:, jaw])[0, 1] > 0.9 and not np.array_equal(made[:, jaw], rule[:, jaw])
    np.testing.assert_array_equal(made[:, brow], rule[:, brow])
    np.testing.assert_allclose(made[:, blink], rule[:, blink], atol=0.1)  # lids follow the eyes
    # Frame 0 is the photo itself in both.
    first = [imageio.imread(tmp_path / name / "000000.png") for name in ("left out", "none")]
    np.testing.assert_array_equal(*first)


@pytest.mark.skipif(not GESTURES.is_dir(), reason="no gesture model ships")
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(folder, tmp_path, monkeypatch, capfd):
    from avatar import video_io

    monkeypatch.setattr(video_io, "SEGMENT_FRAMES", 15)
    assert main(command(folder, tmp_path / "whole.mp4")) == 0
    write = video_io.VideoWriter.write

    def stopped(self, frame):
        if self.written == 22:
            raise KeyboardInterrupt
        write(self, frame)

    (tmp_path / "again").mkdir()
    again = command(folder, tmp_path / "again" / "whole.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(video_io.VideoWriter, "write", stopped)
        assert main(again) == 130
    assert main(again) == 0 and "going on from frame 15" in capfd.readouterr().err
    assert (tmp_path / "again" / "whole.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_the_photo_s_pose_is_what_the_model_goes_on_from(folder):
    from infer.gesture import load_gesture_model
    from infer.synthesis import Synthesis
    from pose.photo_pose import photo_motion

    pipeline = load_gesture_model(str(folder / "model"))
    synthesis = Synthesis(imageio.imread(PRESENTER)[..., :3], (192, 192), 25.0)
    seen = []
    stream = pipeline.stream
    pipeline.stream = lambda speech, **choices: seen.append(choices["seed_motion"]) or stream(speech, **choices)
    assert next(synthesis.gesture_motion(pipeline, open_speech(folder / "speech.wav")))
    wanted = photo_motion(synthesis.retargeter.body, pipeline.mean_pose)
    np.testing.assert_array_equal(seen[0].rotations, wanted.rotations)
    assert not np.allclose(wanted.rotations, pipeline.mean_pose.rotations, atol=0.05)
    assert on_home(replace(wanted, fps=15.0)).fps == 15.0


REFUSED = {
    "unknown style 'merry'; this model knows happy, sad": ("model", "--style", "merry"),
    "unknown speaker '3'; this model knows 2, 7": ("model", "--speaker", "3=0.5,2=0.5"),
    "--style takes": ("model", "--style", "happy=very"),
    "no such model": ("absent",),
    "no gesture pipeline could be read": ("empty",),
    "not a gesture model": ("other",),
    "pass --speech-model": ("hears_wavlm",),
    "no speech network": ("hears_wavlm", "--speech-model", "empty"),
    "gives 32 numbers a frame": ("hears_wavlm", "--speech-model", "narrow"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_in_one_line_with_nothing_written(words, folder, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    model, *more = REFUSED[words]
    assert main(command(folder, tmp_path / "talk.mp4", "--gesture-model", model, *more)) == 2
    out, err = capfd.readouterr()
    assert out == "" and words in err and err.count("\n") == 1 and err.startswith("run.py: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words,more",
    [
        ("--style belongs to a gesture model", ("--gesture-model", "none", "--style", "happy")),
        ("--style belongs to a gesture model", ("--motion-in", "a.bvh", "--style", "happy")),
        ("--speech-model belongs to a gesture model", ("--gesture-model", "none", "--speech-model", "wavlm")),
        ("pass one of them", ("--gesture-model", "model", "--motion-in", "a.bvh")),
    ],
)
def test_options_that_do_not_go_together(words, more, folder, tmp_path, capfd):
    assert main(command(folder, tmp_path / "talk.mp4", *more)) == 2
    assert words in capfd.readouterr().err
