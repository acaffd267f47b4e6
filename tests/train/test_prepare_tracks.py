"""Where one person is, what is cropped and kept: decisions on made-up faces and keypoints."""

import numpy as np
import pytest

from pose.keypoints import COUNT, FACE, HANDS, Keypoints
from train.prepare_media import Media
from train.prepare_report import joined, kind_of
from train.prepare_settings import CropConfig, FilterConfig, PrepareConfig, SplitConfig, TrackConfig
from train.prepare_shards import clip_rows, split_of
from train.prepare_stages import Track
from train.prepare_tracks import (
    OVAL,
    Faces,
    cut_clips,
    find_tracks,
    judge_keypoints,
    plan_crop,
    smoothed_keypoints,
)


def samples(places, every=12, size=100):
    """Faces every 12 frames; a place is None, x, or a list of (x, size)."""
    found = []
    for number, place in enumerate(places):
        faces = [] if place is None else place if isinstance(place, list) else [(place, size)]
        boxes = [[x - s / 2, 200 - s / 2, x + s / 2, 200 + s / 2] for x, s in faces]
        found.append(Faces(number * every, np.array(boxes, np.float32).reshape(-1, 4)))
    return found


def kept(places, frames, cuts=(), **changes):
    found = find_tracks(samples(places), frames, cuts, 25, TrackConfig(**changes))
    covered = [(s.start, s.stop) for s in found]
    assert covered == sorted(covered), "in order, without overlap"
    assert all(a[1] <= b[0] for a, b in zip(covered, covered[1:], strict=False))
    return [(s.start, s.stop) for s in found if not s.reason], [s.reason for s in found if s.reason]


def test_one_person_throughout():
    assert kept([300] * 10, 120) == ([(0, 120)], [])


def test_cuts_divide_and_lose_two_frames_on_each_side():
    assert kept([300] * 10, 120, [50]) == ([(0, 48), (52, 120)], [])
    tracks, reasons = kept([300] * 10, 120, [10, 50])
    assert tracks == [(12, 48), (52, 120)] and reasons == ["too brief between two cuts: 8 frames"]


def test_short_gaps_are_bridged_long_ones_are_not():
    assert kept([300, 300, None, None, 300, 300], 72)[0] == [(0, 72)]
    tracks, reasons = kept([300] * 4 + [None] * 5 + [300] * 4, 156)
    assert tracks == [(0, 37), (108, 156)] and reasons == ["no face"]
    assert kept([None] * 5, 60) == ([], ["no face"])


def test_a_second_person_counts_if_large():
    small, large = [(300, 100), (600, 40)], [(300, 100), (600, 60)]
    assert kept([small] * 6, 72)[0] == [(0, 72)]
    assert kept([large] * 6, 72) == ([], ["several people of similar size: 2"])
    tracks, reasons = kept([300] * 4 + [large] * 2 + [300] * 4, 120)
    assert tracks == [(0, 37), (72, 120)] and reasons == ["several people of similar size: 2"]
    assert kept([large] * 6, 72, second_face=0.7)[0] == [(0, 72)]


def with_print(number, shirt=(270, 370, 340, 440)):
    """A face and, on its chest, another one that is found in every so many samples."""
    found, shirt = samples([300] * 10), np.array([shirt], np.float32)
    together = [sorted([*s.boxes, *shirt], key=lambda box: box[0] - box[2]) for s in found]  # the largest first
    return [
        Faces(s.frame, np.array(both)) if k % number == 0 else s
        for k, (s, both) in enumerate(zip(found, together, strict=True))
    ]


def test_a_face_printed_on_a_shirt_is_nobody():
    """intel_asl/help.mkv: a skull on a shirt, found in one sample of four."""
    for shirt in ((270, 370, 340, 440), (200, 370, 400, 560)):  # smaller than the face, and larger as in that file
        assert [s.reason for s in find_tracks(with_print(3, shirt), 120, [], 25, TrackConfig())] == [""]
    child = find_tracks(with_print(1), 120, [], 25, TrackConfig())
    assert [s.reason for s in child] == ["several people of similar size: 2"], "somebody on a lap is always there"


def test_another_face_begins_another_track():
    tracks, reasons = kept([300] * 5 + [700] * 5, 120)
    assert tracks == [(0, 49), (60, 120)] and reasons == ["between two people"]
    assert kept([300] * 5 + [[(300, 30)]] * 5, 120)[0] == [(0, 49), (60, 120)], "a face far smaller is another one"
    tracks, reasons = kept([300, 700], 30)
    assert tracks == [] and "one person, but too briefly: 18 frames" in reasons


def person(frames=30, size=(1080, 1920), x=960.0, unit=300.0, hands=True):
    """Someone upright: shoulders one `unit` apart, face above, hands before the chest."""
    points = np.zeros((frames, COUNT, 2), np.float32)
    confidence = np.zeros((frames, COUNT), np.float32)
    places = {5: (0.5, 0), 6: (-0.5, 0), 7: (0.65, 0.75), 8: (-0.65, 0.75), 9: (0.4, 1.1), 10: (-0.4, 1.1),
              11: (0.3, 1.5), 12: (-0.3, 1.5)}  # fmt: skip
    for index, (across, down) in places.items():
        points[:, index] = x + across * unit, 500 + down * unit
        confidence[:, index] = 1
    angles = np.linspace(0, 2 * np.pi, FACE.stop - FACE.start)
    points[:, FACE, 0] = x + 0.2 * unit * np.cos(angles)
    points[:, FACE, 1] = 500 - 0.6 * unit + 0.28 * unit * np.sin(angles)
    around = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    points[:, OVAL] = np.stack([x + 0.22 * unit * np.sin(around), 320 + 0.3 * unit * np.cos(around)], -1)
    confidence[:, FACE] = 1
    if hands:
        for side, part in zip((1, -1), HANDS.values(), strict=True):
            spread = np.random.default_rng(0).uniform(-0.1, 0.1, (21, 2)) * unit
            points[:, part] = np.array([x + side * 0.4 * unit, 500 + 1.1 * unit]) + spread
            confidence[:, part] = 1
    return Keypoints(points, confidence, size, 25.0)


def test_crop_holds_the_person_in_a_bucket():
    keypoints = person()
    crop = plan_crop(keypoints, CropConfig())
    assert crop.size in [(640, 384), (704, 384), (576, 448), (512, 512)]
    assert abs(crop.height / crop.width / (crop.size[0] / crop.size[1]) - 1) < 0.01, "not stretched"
    clip = crop.applied(keypoints)
    upper = [*OVAL, 5, 6, 7, 8, 9, 10]
    assert (clip.points[:, upper] > 0).all() and (clip.points[:, upper] < np.array(crop.size[::-1])).all()
    assert clip.size == crop.size and clip.confidence[:, upper].min() == 1
    assert clip.points[:, OVAL, 1].min() > 20, "air above the head"
    middle = clip.points[0, [5, 6], 0].mean() / crop.size[1]
    assert 0.4 < middle < 0.6
    # The crop of a larger picture of the same scene shows the same.
    double = plan_crop(keypoints.resized((2160, 3840)), CropConfig())
    assert double.size == crop.size and abs(double.x - 2 * crop.x) <= 2 and abs(double.width - 2 * crop.width) <= 3


def test_crop_never_leaves_the_picture():
    for keypoints in (person(x=200.0), person(unit=900.0), person(size=(700, 800), x=400.0)):
        crop = plan_crop(keypoints, CropConfig())
        assert crop.x >= 0 and crop.y >= 0
        assert crop.x + crop.width <= keypoints.size[1] and crop.y + crop.height <= keypoints.size[0]
    with pytest.raises(ValueError, match="no face"):
        unseen = person()
        plan_crop(Keypoints(unseen.points, unseen.confidence * 0, unseen.size), CropConfig())


def test_points_beyond_the_crop_lose_confidence():
    keypoints = person()
    crop = plan_crop(keypoints, CropConfig(margin=0.0))
    points = keypoints.points.copy()
    points[3, HANDS["left"]] += 2000
    moved = crop.applied(Keypoints(points, keypoints.confidence, (4000, 4000), 25.0))
    assert moved.confidence[3, HANDS["left"]].max() == pytest.approx(0.2) and moved.confidence[2].max() == 1


@pytest.mark.parametrize(
    "frames, expected",
    [
        (24, []),
        (25, [(0, 25)]),
        (125, [(0, 125)]),
        (126, [(0, 63), (63, 126)]),
        (300, [(0, 100), (100, 200), (200, 300)]),
    ],
)
def test_clips_are_equally_long(frames, expected):
    assert cut_clips(frames, 25, 125) == expected


def test_clips_of_one_length():
    assert cut_clips(130, 50, 60) == [(0, 60), (60, 120)] or cut_clips(130, 50, 60) == [(0, 43), (43, 87), (87, 130)]
    for frames in range(25, 400):
        clips = cut_clips(frames, 50, 60)
        assert all(50 <= b - a <= 60 for a, b in clips)
    assert cut_clips(1, 1, 1) == [(0, 1)]


def test_filters_name_what_is_wrong():
    keypoints = person()
    crop = plan_crop(keypoints, CropConfig())
    clip = crop.applied(keypoints)
    good = judge_keypoints(clip, crop, FilterConfig(), 2.5)
    assert good.reasons == [] and good.measures["hands_seen"] == 1 and good.measures["jump"] < 1e-3
    assert "face height in pixels" in judge_keypoints(clip, crop, FilterConfig(face_px=400), 2.5).reasons[0]
    assert "enlarged by" in judge_keypoints(clip, crop, FilterConfig(), 0.1).reasons[0]
    without = crop.applied(person(hands=False))
    assert (
        "with a hand 0.00, at least 0.5"
        in judge_keypoints(without, crop, FilterConfig(hands_seen=0.5), 2.5).reasons[0]
    )
    lost = clip.confidence.copy()
    lost[:10, FACE] = 0
    assert (
        "with a face 0.67"
        in judge_keypoints(Keypoints(clip.points, lost, clip.size), crop, FilterConfig(), 2.5).reasons[0]
    )
    turned = clip.points[..., ::-1].copy()
    lying = judge_keypoints(Keypoints(turned, clip.confidence, clip.size[::-1]), crop, FilterConfig(), 2.5).reasons
    assert any("lies on the side: 90 degrees" in reason for reason in lying)
    jumped = clip.points.copy()
    jumped[15:, 5:7, 0] += 300
    assert (
        "jump by"
        in judge_keypoints(Keypoints(jumped, clip.confidence, clip.size), crop, FilterConfig(), 2.5).reasons[0]
    )


def test_smoothing_takes_jitter_and_stops_where_a_hand_is_lost():
    still = person(60)
    random = np.random.default_rng(0)
    noisy = Keypoints(
        still.points + random.normal(0, 2, still.points.shape).astype(np.float32), still.confidence, still.size, 25.0
    )
    smooth = smoothed_keypoints(noisy)
    hands = slice(HANDS["left"].start, HANDS["right"].stop)
    assert (smooth.points - still.points)[:, hands].std() < 0.6 * (noisy.points - still.points)[:, hands].std()
    confidence = still.confidence.copy()
    confidence[30:, HANDS["left"]] = 0
    points = still.points.copy()
    points[30:, HANDS["left"]] = 0  # meaningless while the hand is lost
    broken = smoothed_keypoints(Keypoints(points, confidence, still.size, 25.0))
    assert np.allclose(broken.points[:30, HANDS["left"]], still.points[:30, HANDS["left"]], atol=1e-3)


def test_splits_depend_on_names_only():
    names = [f"{k % 20}/{k}.mp4" for k in range(200)]
    splits = split_of(names, SplitConfig(val_share=0.2))
    share = sum(split == "val" for split in splits.values()) / 200
    assert 0.1 < share < 0.3
    some = split_of(names[::3], SplitConfig(val_share=0.2))
    assert all(splits[name] == split for name, split in some.items()), "other files do not matter"
    folders = split_of(names, SplitConfig(val_share=0.2, by="folder"))
    assert all(folders[a] == folders[b] for a in names[:20] for b in names if a.split("/")[0] == b.split("/")[0])
    assert sorted(split_of(["a", "b"], SplitConfig(val_share=0.001)).values()) == ["train", "val"]
    assert split_of(["a"], SplitConfig(val_share=0.999)) == {"a": "train"}
    assert split_of(["x/ann1", "x/bob1"], SplitConfig(val_names=("bob",))) == {"x/ann1": "train", "x/bob1": "val"}


@pytest.mark.parametrize("share,held", [(0.05, 1), (0.4, 4), (0.0, 0)])
def test_the_end_of_a_single_video_validates(share, held):
    """A person's one video must give something to validate on, or nobody could be fine-tuned with it."""
    config = PrepareConfig(split=SplitConfig(val_share=share))
    clips = [{"start": 100 * k, "stop": 100 * k + 100, "measures": {}} for k in range(10)]
    summary = {
        "clips": clips,
        "refused": [],
        "sound": {"key": "", "reason": "", "measures": {}},
        "crop": {"size": [64, 64]},
    }
    tracks = [(Track(name, "", Media(40.0, 64, 64, False), 0, 0.0, 1000, ()), summary) for name in ("me.mp4", "b.mp4")]
    rows = clip_rows(tracks[:1], split_of(["me.mp4"], config.split), config)
    assert [row["split"] for row in rows] == ["train"] * (10 - held) + ["val"] * held
    both = clip_rows(tracks, {"me.mp4": "val", "b.mp4": "train"}, config)
    assert [row["split"] for row in both] == ["train"] * 10 + ["val"] * 10
    alone = clip_rows([(tracks[0][0], summary | {"clips": clips[:1]})], {"me.mp4": "train"}, config)
    assert alone[0]["split"] == "train"


def test_reasons_are_counted_without_their_numbers():
    assert kind_of("face height in pixels 12.30, at least 40; blurred: sharpness 1") == "face height in pixels"
    assert kind_of("several people of similar size: 2") == "several people of similar size"
    assert kind_of("too brief between two cuts: 8 frames") == "too brief between two cuts"
    assert kind_of("no speech: in 0% of the frames, at least 10%") == "no speech"
    assert kind_of("damaged: 12 decoding errors (x)") == "damaged"


def test_parts_of_a_long_file_with_one_reason_are_one_row():
    parts = [{"start_s": start, "seconds": 60.0, "reason": "no face"} for start in (120.0, 0.0, 60.0)]
    other = {"start_s": 180.0, "seconds": 5.0, "reason": "blurred"}
    apart = {"start_s": 200.0, "seconds": 9.0, "reason": "blurred"}
    assert joined([other, apart, *parts]) == [{"start_s": 0.0, "seconds": 180.0, "reason": "no face"}, other, apart]
