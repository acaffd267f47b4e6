"""BEAT2, SHOW, TED and ZeroEGGS: small folders in their real formats, real samples where they are at hand."""

import json
import pickle
from pathlib import Path

import lmdb
import numpy as np
import pytest
import soundfile

from pose.bvh import write_bvh
from pose.datasets.beat2 import Beat2
from pose.datasets.check import check, open_dataset
from pose.datasets.mapping import on_home
from pose.datasets.pickles import load_arrays
from pose.datasets.show import Show
from pose.datasets.ted import EXPRESSIVE_PAIRS, Ted
from pose.datasets.ted_convert import encode_video
from pose.datasets.zeroeggs import ZeroEggs
from pose.motion import Motion
from pose.representations.joints import SmplxVectors
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import Skeleton

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "motion"


def sound(path, seconds, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(seconds * rate)) / 20), rate)


def smplx(frames=90, seed=0):
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 30
    return (0.4 * np.sin(time * random.uniform(0.5, 4, (1, 165)))).astype(np.float32)


def beat2(folder, poses, names=("2_scott_0_1_1", "2_scott_0_66_66")):
    for name in names:
        (folder / "smplxflame_30").mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "smplxflame_30" / f"{name}.npz", poses=poses, expressions=np.ones((90, 100)),
            trans=np.tile([0.1, 1.2, 0.0], (90, 1)), betas=np.zeros(300, np.float32), model="smplx2020",
            gender="neutral", mocap_frame_rate=30,
        )  # fmt: skip
        sound(folder / "wave16k" / f"{name}.wav", 3.0)
    (folder / "train_test_split.csv").write_text(
        "id,type\n2_scott_0_1_1,test\n2_scott_0_66_66,additional\n2_scott_0_9_9,train\n"
    )


def test_beat2(tmp_path):
    poses = smplx()
    beat2(tmp_path, poses)
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, Beat2)
    assert dataset.faults == [("2_scott_0_9_9", "listed in train_test_split.csv, no .npz")]
    assert {r.name: r.split for r in dataset.recordings} == {"2_scott_0_1_1": "test", "2_scott_0_66_66": "additional"}
    clip = dataset.load(dataset.recordings[0])
    assert len(clip) == 90 and clip.face.shape == (90, 103)
    np.testing.assert_allclose(clip.motion.root_position[0], [10.0, 93.0, 0.0], atol=1e-4)
    back = SmplxVectors().raw(clip.motion)
    kept = np.r_[0:66, 75:165]  # jaw and eyes are not in the body
    np.testing.assert_allclose(back[:, kept], poses[:, kept], atol=1e-4)


def test_beat2_faults(tmp_path):
    poses = smplx()
    poses[7, 3] = np.nan
    beat2(tmp_path, poses)
    (tmp_path / "smplxflame_30" / "2_scott_0_66_66.npz").write_bytes(b"PK\x03\x04 cut off")
    report = check(open_dataset(tmp_path))
    assert report.usable == 0 and len(report.unusable) == 3
    assert "NaN" in dict(report.unusable)["2_scott_0_1_1"]


def test_real_beat2_sample():
    folder = SHARED / "beat2_pair_syntalker"
    if not folder.is_dir():
        pytest.skip("no real BEAT2 sample in ../shared/data/motion")
    report = check(open_dataset(folder))
    assert report.usable == 1 and 60 < report.seconds < 65 and not report.unusable


class Bomb:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('bombed').touch()",))


def show(folder, name="clip1", **changes):
    poses = smplx()
    fields = {
        "global_orient": poses[:, :3], "body_pose_axis": poses[:, 3:66], "jaw_pose": poses[:, 66:69],
        "leye_pose": poses[:, 69:72], "reye_pose": poses[:, 72:75], "left_hand_pose": np.ones((90, 12), np.float32),
        "right_hand_pose": np.ones((90, 12), np.float32), "expression": np.zeros((90, 100)), "betas": np.zeros(300),
        "transl": np.zeros((90, 3)),
    } | changes  # fmt: skip
    place = folder / "seth" / "video1" / name
    place.mkdir(parents=True)
    (place / f"{name}.pkl").write_bytes(pickle.dumps(fields, protocol=2))
    sound(place / f"{name}.wav", 3.0, 22000)
    return poses


def test_show(tmp_path):
    poses = show(tmp_path)
    random = np.random.default_rng(1).normal(size=(2, 12, 45)) * 0.02
    dataset = Show(tmp_path)
    clip = dataset.load(dataset.recordings[0])
    assert clip.speaker == "seth" and "fingers at rest" in clip.notes[0] and len(clip) == 90
    (tmp_path / "hand_component.json").write_text(
        json.dumps({"left": random[0].tolist(), "right": random[1].tolist()})
    )
    dataset = Show(tmp_path)
    clip = dataset.load(dataset.recordings[0])
    back = SmplxVectors().raw(clip.motion)
    np.testing.assert_allclose(back[:, :66], poses[:, :66], atol=1e-4)
    np.testing.assert_allclose(back[:, 75:120], np.tile(random[0].sum(0), (90, 1)), atol=1e-4)
    assert clip.notes == () and len(clip.waveform) == 48000


def test_show_faults_and_code_in_a_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    show(tmp_path, "bomb", betas=Bomb())
    show(tmp_path, "short", expression=np.zeros((7, 100)))
    show(tmp_path, "narrow", body_pose_axis=np.zeros((90, 60)))
    show(tmp_path, "text", transl=np.array(["a"] * 3))
    show(tmp_path, "cut")
    cut = tmp_path / "seth" / "video1" / "cut" / "cut.pkl"
    cut.write_bytes(cut.read_bytes()[:2000])
    report = check(open_dataset(tmp_path))
    reasons = {name.split("/")[-1]: why for name, why in report.unusable}
    assert set(reasons) == {"bomb", "short", "narrow", "text", "cut"}
    assert "builtins.eval" in reasons["bomb"] and not Path("bombed").exists()
    assert "frames" in reasons["short"] and "63" in reasons["narrow"] and "not numbers" in reasons["text"]


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_arrays_are_read(tmp_path, protocol):
    content = {"a": np.arange(6).reshape(2, 3), "b": [np.float32(1.5), "text", b"\xff\x00", None], "c": (1, 2.0, True)}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = load_arrays(path)
    np.testing.assert_array_equal(read["a"], content["a"])
    assert read["b"] == content["b"] and read["c"] == content["c"]


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, np.load, np.frombuffer])
def test_pickles_with_code_are_refused(tmp_path, function):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": function}))
    with pytest.raises(ValueError, match="refused"):
        load_arrays(path)


def ted(folder, joints, videos=2, still=False):
    random = np.random.default_rng(0)
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number in range(videos):
            time = np.arange(60)[:, None, None] / 25
            points = random.normal(size=(1, joints, 3)) * 0.2 + 0.1 * np.sin(time * (1 + np.arange(joints))[:, None])
            points = points * 0 + points[:1] if still else points
            points[:, 0], points[:, 1] = (0, 0.5, 0), (0, 0, 0)  # an upright spine: y points down in the data
            clip = {
                "skeletons_3d": points, "audio_raw": np.zeros(38400, np.float16), "start_time": 10.0,
                "end_time": 12.4, "words": [["so", 10.1, 10.3], ["we", 10.5, 10.8]],
            }  # fmt: skip
            transaction.put(f"{number:010}".encode(), encode_video({"vid": f"talk{number}", "clips": [clip, clip]}))
        transaction.put(b"0000000097", b"PK broken")
        transaction.put(b"0000000098", b"\x00\x01\x02legacy pyarrow")


@pytest.mark.parametrize("joints,bones", [(10, 9), (43, 42)])
def test_ted(tmp_path, joints, bones):
    ted(tmp_path / "lmdb_val", joints)
    dataset = Ted(tmp_path)
    assert [why.split(";")[0].split(":")[0] for _, why in dataset.faults] == [
        "the record is broken",
        "the record is not converted (pyarrow.serialize) or broken",
    ]
    assert len(dataset.recordings) == 4 and {r.split for r in dataset.recordings} == {"val"}
    clip = dataset.load(dataset.recordings[3])
    assert clip.directions.shape == (36, bones, 3) and clip.speaker == "talk1" and len(clip.waveform) == 38400
    np.testing.assert_allclose(np.linalg.norm(clip.directions, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(clip.directions[:, 0], np.tile([0, 1, 0], (36, 1)), atol=1e-5)
    assert [round(word.start, 2) for word in clip.words] == [0.1, 0.5]


def test_ted_filter_leaves_still_clips_out(tmp_path):
    ted(tmp_path / "lmdb_train", 10, still=True)
    report = check(Ted(tmp_path))
    assert report.usable == 0 and "hardly any movement" in dict(report.unusable)["talk0/0"]
    assert len(check(Ted(tmp_path, filtered=False)).unusable) == 2


def test_lmdb_that_is_none_is_named(tmp_path):
    ted(tmp_path / "lmdb_val", 10)
    (tmp_path / "lmdb_train").mkdir()
    (tmp_path / "lmdb_train" / "data.mdb").write_bytes(b"\x00" * 8192)
    report = check(Ted(tmp_path))
    assert report.usable == 4
    assert "not an LMDB" in dict(report.unusable)[str(tmp_path / "lmdb_train")]


def test_expressive_bones_form_a_tree():
    assert len(EXPRESSIVE_PAIRS) == 42 and sorted(end for _, end in EXPRESSIVE_PAIRS) == list(range(1, 43))


def test_zeroeggs_original_is_cut_to_the_acting_times(tmp_path):
    home = Skeleton.home()
    turn = axis_angle_to_matrix(np.linspace(0, 1, 360)[:, None] * [0.0, 0.0, 1.0]).astype(np.float32)
    rotations = home.rest_rotations(360)
    rotations[:, home.index("LeftArm")] = turn
    motion = Motion(60.0, home, rotations, np.tile([0, 93, 0], (360, 1)).astype(np.float32))
    (tmp_path / "original").mkdir()
    for name in ("001_Neutral_0", "002_Happy_0", "003_Sad_0"):
        write_bvh(tmp_path / "original" / f"{name}.bvh", motion, "ZYX")
    for name in ("001_Neutral_0", "002_Happy_0"):
        sound(tmp_path / "original" / f"{name}.wav", 8.0, 48000)
    columns = "anim_bvh,audio_filename,anim_start_time,audio_start_time,acting_start_time,acting_end_time,validation"
    rows = [
        "001_Neutral_0.bvh,001_Neutral_0.wav,01:00:00:00,00:59:59:15,01:00:01:00,01:00:04:00,0",
        "002_Happy_0.bvh,002_Happy_0.wav,01:00:00:00,01:00:00:00,00:59:01:00,01:00:04:00,1",
    ]
    (tmp_path / "info.csv").write_text("\n".join([columns, *rows]))
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, ZeroEggs) and dataset.faults == [("003_Sad_0", "no 003_Sad_0.wav")]
    assert [(r.style, r.split) for r in dataset.recordings] == [("Neutral", "train"), ("Happy", "val")]
    clip = dataset.load(dataset.recordings[0])
    assert len(clip) == 60 and len(clip.waveform) == 48000  # 3 s at 20 fps
    np.testing.assert_allclose(clip.motion.rotations[0, home.index("LeftArm")], turn[60], atol=1e-5)
    with pytest.raises(ValueError, match="impossible times"):
        dataset.load(dataset.recordings[1])


def test_real_zeroeggs_sample_keeps_its_bones():
    path = SHARED / "zeggs_unifiedgesture" / "067_Speech_2_x_1_0.bvh"
    if not path.is_file():
        pytest.skip("no real ZeroEGGS sample in ../shared/data/motion")
    from pose.bvh import read_bvh

    source = read_bvh(path)[:60]
    mapped = on_home(source)
    here, there = mapped.positions(), source.positions()
    for start, end in (
        ("LeftArm", "LeftForeArm"),
        ("RightForeArm", "RightHand"),
        ("LeftHandIndex1", "LeftHandIndex2"),
    ):
        a, b = (
            p[:, s.index(end)] - p[:, s.index(start)] for p, s in ((here, mapped.skeleton), (there, source.skeleton))
        )
        cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        assert cosine.min() > 0.9999
