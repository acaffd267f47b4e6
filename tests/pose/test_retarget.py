"""Motion and driving keypoints on the body of a photo: an invented person, so that nothing has to be detected."""

from dataclasses import replace

import numpy as np
import pytest

from pose.body_signals import MotionReader, find_joints
from pose.keypoints import COUNT, FACE, HANDS, LEFT_HAND, RIGHT_HAND, Detection, Keypoints
from pose.motion import EXPRESSION_NAMES, Motion, expression_index
from pose.photo_body import measure
from pose.retarget import Retargeter
from pose.rotations import axis_angle_to_matrix
from pose.skeleton import HOME_HEIGHT, Skeleton

SIZE = (512, 512)
UNIT = 180.0  # px between the shoulders


def hand(wrist: tuple[float, float], out: float) -> np.ndarray:
    """An open hand (21, 3) that points outwards and a little down, palm to the camera. `out` is 1 or -1 in x."""
    points = np.zeros((21, 3))
    for finger, (spread, length) in enumerate(((-0.9, 0.55), (-0.35, 0.9), (0.0, 1.0), (0.3, 0.92), (0.6, 0.75))):
        direction = np.array([out * np.cos(spread), -np.sin(-spread), -0.1])
        start = 0.25 if finger == 0 else 0.5
        for joint in range(4):
            points[1 + 4 * finger + joint] = direction * (start + joint * 0.5 * length / 3)
    return points * 0.4 * UNIT + np.array([*wrist, 0.0])


def person(clasped: bool = False) -> Detection:
    """A person who faces the camera with both hands in front."""
    points = np.zeros((COUNT, 2), np.float32)
    depth = np.zeros(COUNT, np.float32)
    x, y = 256.0, 200.0
    # A face: an ellipsoid of mesh points with eyes, mouth and outline where the mesh has them.
    random = np.random.default_rng(0)
    angle, radius = random.uniform(0, 2 * np.pi, 478), np.sqrt(random.uniform(0.05, 1, 478))
    face = np.stack([38 * radius * np.cos(angle), 50 * radius * np.sin(angle)], -1)
    named = {
        33: (-22, -12), 133: (-8, -12), 362: (8, -12), 263: (22, -12), 10: (0, -50), 152: (0, 50), 234: (-38, 0),
        454: (38, 0), 61: (-13, 24), 291: (13, 24), 58: (-32, 25), 288: (32, 25), 127: (-37, -10), 356: (37, -10),
        13: (0, 23), 14: (0, 25), 82: (-3, 23), 312: (3, 23), 87: (-3, 25), 317: (3, 25), 4: (0, 8), 468: (-15, -12),
        473: (15, -12), 159: (-15, -15), 145: (-15, -9), 386: (15, -15), 374: (15, -9),
    }  # fmt: skip
    for index, place in named.items():
        face[index] = place
    points[FACE] = face + (x, 110)
    depth[FACE] = 60 * ((face[:, 0] / 45) ** 2 + (face[:, 1] / 60) ** 2)
    joints = {5: (x + 90, y), 6: (x - 90, y), 7: (x + 110, y + 130), 8: (x - 110, y + 130), 9: (x + 95, y + 190),
              10: (x - 95, y + 190), 11: (x + 60, y + 300), 12: (x - 60, y + 300), 0: (x, 118), 1: (x + 15, 98),
              2: (x - 15, 98), 3: (x + 40, 110), 4: (x - 40, 110)}  # fmt: skip
    if clasped:
        joints |= {9: (x + 45, y + 180), 10: (x - 45, y + 180)}
    for index, place in joints.items():
        points[index] = place
    hand_world = np.zeros((2, 21, 3), np.float32)
    for side, (part, out) in enumerate(((LEFT_HAND, 1.0), (RIGHT_HAND, -1.0))):
        lifted = hand(joints[9 + side], -out if clasped else out)
        points[part], depth[part] = lifted[:, :2], lifted[:, 2]
        hand_world[side] = (lifted - lifted[0]) / UNIT * 0.36
    world = np.zeros((33, 3), np.float32)
    for side, indices in enumerate(((11, 13, 15), (12, 14, 16))):
        for index, body, z in zip(indices, (5, 7, 9), (0.0, 0.02, -0.2), strict=True):
            world[index] = (*((np.array(joints[body + side]) - (x, y)) / UNIT * 0.36), z)
    confidence = np.ones((1, COUNT), np.float32)
    confidence[0, 13:23] = 0.0
    keypoints = Keypoints(points[None], confidence, SIZE)
    return Detection(keypoints, depth[None], world[None], hand_world[None], np.ones((1, *SIZE), np.float32))


def gesture(frames: int = 150, size: float = 1.0, fps: float = 25.0) -> Motion:
    """Both arms swing from the elbows, head and trunk too, from a rest with raised forearms; the mouth opens."""
    home = Skeleton.home()
    time = np.arange(frames) / fps
    wave = np.sin(2 * np.pi * 0.8 * time)
    rotations = home.rest_rotations(frames)
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        down = axis_angle_to_matrix([0, 0, -1.2 * sign])
        swing = np.stack([-1.3 + 0 * time, 0.5 * sign * size * wave, 0.4 * sign * size * np.sin(3 * time)], -1)
        rotations[:, home.index(side + "Arm")] = down
        rotations[:, home.index(side + "ForeArm")] = axis_angle_to_matrix(swing) @ axis_angle_to_matrix([0, -sign, 0])
        rotations[:, home.index(side + "Hand")] = axis_angle_to_matrix(
            np.stack([0.5 * wave, 0 * wave, 0.3 * wave], -1)
        )
        for bone in (1, 2, 3):
            joint = home.index(f"{side}HandIndex{bone}")
            rotations[:, joint] = axis_angle_to_matrix(np.stack([0 * wave, 0 * wave, -0.4 * sign * wave], -1))
    rotations[:, home.index("Head")] = axis_angle_to_matrix(np.stack([0.1 * wave, 0.3 * wave, 0 * wave], -1))
    rotations[:, home.index("Spine")] = axis_angle_to_matrix(np.stack([0 * wave, 0 * wave, 0.05 * wave], -1))
    root = np.tile([0.0, HOME_HEIGHT, 0.0], (frames, 1)).astype(np.float32)
    expression = np.zeros((frames, len(EXPRESSION_NAMES)), np.float32)
    expression[:, expression_index("jawOpen")] = 0.3 + 0.3 * np.cos(5 * time)
    return Motion(fps, home, rotations, root, expression)


def run(retargeter: Retargeter, motion: Motion, cuts: tuple[int, ...] = ()) -> Keypoints:
    parts = [motion[slice(a, b)] for a, b in zip((0, *cuts), (*cuts, len(motion)), strict=True)]
    return Keypoints.concatenated(list(retargeter.stream(parts)))


@pytest.fixture(scope="module")
def detection() -> Detection:
    return person()


def test_the_first_frame_is_the_photo_and_what_follows_leaves_it_gently(detection: Detection) -> None:
    result = run(Retargeter(detection), gesture())
    assert len(result) == 150 and result.fps == 25 and result.size == SIZE
    np.testing.assert_array_equal(result.points[0], detection.keypoints.points[0])
    steps = np.linalg.norm(np.diff(result.points, axis=0), axis=-1).max(1) / UNIT
    assert steps[0] < 0.005 and steps[:3].max() < 0.05
    assert steps[25:].max() > 0.03  # it does move


def test_a_motion_that_stands_still_leaves_the_photo_but_for_breath(detection: Detection) -> None:
    motion = gesture()
    still = replace(
        motion,
        rotations=np.repeat(motion.rotations[:1], 150, 0),
        expression=np.zeros_like(motion.expression),
    )
    result = run(Retargeter(detection), still)
    away = np.linalg.norm(result.points - result.points[0], axis=-1)[:, 5:65] / UNIT
    assert away.max() < 0.012
    # Never more than half a second without any motion.
    moving = np.linalg.norm(np.diff(result.points, axis=0), axis=-1).max(1) > 0.005  # px
    longest = max(len(run) for run in "".join("x" if m else "." for m in moving).replace("x", " ").split(" "))
    assert longest < 13


@pytest.mark.parametrize("cuts", [(1,), (10, 11, 60), (25, 50), (149,)])
def test_chunks_do_not_matter(detection: Detection, cuts: tuple[int, ...]) -> None:
    retargeter = Retargeter(detection)
    np.testing.assert_array_equal(run(retargeter, gesture(), cuts).points, run(retargeter, gesture()).points)


def test_lengths_and_frame_are_kept_even_by_wild_motion(detection: Detection) -> None:
    result = run(Retargeter(detection), gesture(size=3.0))
    photo = detection.keypoints.points[0]
    for side, part in enumerate(HANDS.values()):
        shoulder, elbow, wrist = result.points[:, 5 + side], result.points[:, 7 + side], result.points[:, 9 + side]
        upper = np.linalg.norm(elbow - shoulder, axis=-1) / np.linalg.norm(photo[7 + side] - photo[5 + side])
        fore = np.linalg.norm(wrist - elbow, axis=-1) / np.linalg.norm(photo[9 + side] - photo[7 + side])
        assert upper.min() > 0.8 and upper.max() < 1.12
        assert fore.min() > 0.5 and fore.max() < 1.35
        points = result.points[:, part]
        assert points.min() > 0 and points.max() < SIZE[0]
        # The hand keeps its size and hangs on the wrist.
        palm = np.linalg.norm(points[:, 9] - points[:, 0], axis=-1)
        assert palm.min() / palm[0] > 0.6 and palm.max() / palm[0] < 1.2
        np.testing.assert_allclose(points[:, 0], wrist, atol=1e-3)
    # Hands stay below the mouth.
    assert result.points[:, 23:65, 1].min() > photo[65 + 13, 1]


def test_motion_is_as_smooth_as_it_came(detection: Detection) -> None:
    result = run(Retargeter(detection), gesture())
    wrists = result.points[:, 9:11] / UNIT
    acceleration = np.linalg.norm(np.diff(wrists, 2, axis=0), axis=-1) * 25**2
    assert np.percentile(acceleration, 99.9) < 65
    speed = np.linalg.norm(np.diff(wrists, axis=0), axis=-1) * 25
    assert 0.2 < speed.mean() < 1.5


def test_clasped_hands_stay_together() -> None:
    detection = person(clasped=True)
    body = measure(detection)
    assert body.clasped and not measure(person()).clasped
    result = run(Retargeter(detection), gesture())
    apart = result.points[:, 9] - result.points[:, 10]
    np.testing.assert_allclose(apart, np.broadcast_to(apart[0], apart.shape), atol=1e-3)
    assert np.ptp(result.points[:, 9], axis=0).max() > 0.02 * UNIT


def test_a_turned_chest_is_seen(detection: Detection) -> None:
    """The left shoulder half as far again behind the right one as they are apart."""
    world = detection.world.copy()
    world[0, 11, 2], world[0, 12, 2] = 0.09, -0.09
    body = measure(replace(detection, world=world))
    line = body.turn @ np.array([1.0, 0.0, 0.0])
    assert line[2] > 0.2 and line[0] > 0.9
    assert body.unit > measure(detection).unit
    result = run(Retargeter(replace(detection, world=world)), gesture())
    np.testing.assert_array_equal(result.points[0], detection.keypoints.points[0])


def test_an_arm_akimbo_rests(detection: Detection) -> None:
    points = detection.keypoints.points.copy()
    x, y = points[0, 5]
    shift = (x - 10, y + 215) - points[0, 9]
    points[0, LEFT_HAND] += shift
    points[0, 9], points[0, 7] = (x - 10, y + 215), (x + 75, y + 120)
    akimbo = replace(detection, keypoints=replace(detection.keypoints, points=points))
    result = run(Retargeter(akimbo), gesture())
    travel = np.ptp(result.points[:, 9:11], axis=0).max(-1) / UNIT
    assert travel[0] < 0.15 < travel[1]


def test_what_the_photo_does_not_show_stays_unknown_and_still(detection: Detection) -> None:
    confidence = detection.keypoints.confidence.copy()
    confidence[:, LEFT_HAND] = 0
    confidence[:, [7, 9]] = 0.1
    hidden = replace(detection, keypoints=replace(detection.keypoints, confidence=confidence))
    result = run(Retargeter(hidden), gesture())
    assert (result.confidence[:, LEFT_HAND] == 0).all() and (result.confidence[:, RIGHT_HAND] == 1).all()
    travel = np.ptp(result.points[:, [9, 10]], axis=0).max(-1) / UNIT
    assert travel[0] < 0.15 < travel[1]


def test_a_hand_cut_by_the_border_does_not_come_in(detection: Detection) -> None:
    """The picture ends in the middle of the hands: raising them would show their cut ends."""
    height = int(detection.keypoints.points[0, LEFT_HAND, 1].mean())
    lower = replace(detection, keypoints=replace(detection.keypoints, size=(height, 512)))
    result = run(Retargeter(lower), gesture())
    assert (np.ptp(result.points[:, 9:11], axis=0) / UNIT < 0.15).all()


def test_a_face_alone_is_enough(detection: Detection) -> None:
    confidence = np.zeros_like(detection.keypoints.confidence)
    confidence[:, FACE] = 1
    nothing = np.full_like(detection.world, np.nan)
    alone = Detection(
        replace(detection.keypoints, confidence=confidence),
        detection.depth,
        nothing,
        np.full_like(detection.hand_world, np.nan),
        detection.matte,
    )
    retargeter = Retargeter(alone)
    assert 0.5 * UNIT < retargeter.body.unit < 2 * UNIT
    result = run(retargeter, gesture())
    assert np.isfinite(result.points).all()
    assert np.ptp(result.points[:, FACE], axis=0).max() > 5

    nobody = replace(alone, keypoints=replace(alone.keypoints, confidence=np.zeros_like(confidence)))
    with pytest.raises(ValueError, match="neither shoulders nor a face"):
        Retargeter(nobody)


def test_head_and_face_follow_the_motion(detection: Detection) -> None:
    motion = gesture()
    result = run(Retargeter(detection), motion)
    face = result.points[:, FACE]
    opening = face[:, 14, 1] - face[:, 13, 1]
    assert np.corrcoef(opening[10:], motion.expression[10:, expression_index("jawOpen")])[0, 1] > 0.95
    # The body's points of the head ride on the mesh.
    np.testing.assert_allclose(result.points[:, 0] - result.points[0, 0], face[:, 4] - face[0, 4], atol=0.5)


def test_wrong_motion_is_refused(detection: Detection) -> None:
    retargeter = Retargeter(detection)
    with pytest.raises(ValueError, match=r"resampled\(25"):
        run(retargeter, gesture(fps=30.0))
    home = Skeleton.home()
    foreign = Skeleton(tuple(f"bone{i}" for i in range(75)), home.parents, home.offsets)
    with pytest.raises(ValueError, match="unknown skeleton"):
        run(retargeter, replace(gesture(), skeleton=foreign))
    other = replace(gesture(), skeleton=Skeleton(home.names, home.parents, home.offsets * 2))
    with pytest.raises(ValueError, match="changed within"):
        list(retargeter.stream([gesture(), other]))


def renamed(motion: Motion, fashion: str) -> Motion:
    """The same motion on a skeleton of another fashion: other names, no fingers, other rest pose, another heading."""
    home = motion.skeleton
    short = {"Shoulder": "Collar", "Arm": "Shoulder", "ForeArm": "Elbow", "Hand": "Wrist"}
    keep = [j for j, name in enumerate(home.names) if "Hand" not in name or name in ("LeftHand", "RightHand")]
    names = []
    for j in keep:
        name = home.names[j]
        for side in ("Left", "Right"):
            part = name.removeprefix(side)
            if fashion == "poser" and name.startswith(side) and part in short:
                name = side + short[part]
            if fashion == "beat" and name.startswith(side):
                name = side[0] + {"ForeArm": "Arm1"}.get(part, part)
        names.append(name)
    parents = tuple(keep.index(home.parents[j]) if j else -1 for j in keep)
    # Another rest pose: every bone frame is turned by its own fixed rotation.
    turns = axis_angle_to_matrix(np.random.default_rng(3).normal(size=(len(keep), 3)))
    world = home.global_rotations(motion.rotations)[:, keep] @ turns
    offsets = home.offsets[keep].copy()
    for j in range(1, len(keep)):
        offsets[j] = turns[parents[j]].T @ offsets[j]
    heading = axis_angle_to_matrix([0, 2.0, 0])
    skeleton = Skeleton(tuple(names), parents, offsets)
    local = skeleton.local_rotations(heading @ world)
    return Motion(25.0, skeleton, local.astype(np.float32), (motion.root_position @ heading.T).astype(np.float32))


@pytest.mark.parametrize("fashion", ["home", "poser", "beat"])
def test_other_skeletons_give_the_same_signals(fashion: str) -> None:
    motion = gesture(40)
    ours, theirs = MotionReader().read(motion), MotionReader().read(renamed(motion, fashion))
    for name in ("wrist", "elbow", "hand", "chest", "roll", "shrug", "head"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), atol=2e-4, err_msg=name)
    assert np.abs(ours.flexion).max() > 0.3 and not theirs.flexion.any()


def test_joints_are_found_by_name() -> None:
    arms, head, fingers = find_joints(Skeleton.home())
    home = Skeleton.home()
    assert [home.names[j] for j in arms[0]] == ["LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand"]
    assert home.names[head] == "Head"
    assert fingers[1] is not None and home.names[fingers[1][4, 3]] == "RightHandPinky4"


def test_the_motion_drives_through_its_own_keypoints(detection: Detection) -> None:
    """A driving video of the same person, twice as large: the result follows the driver."""
    driver = run(Retargeter(detection), gesture()).resized((1024, 1024))
    retargeter = Retargeter(detection)
    result = Keypoints.concatenated(list(retargeter.stream_driving([driver[0:70], driver[70:150]])))
    again = Keypoints.concatenated(list(retargeter.stream_driving([driver[i : i + 1] for i in range(150)])))
    np.testing.assert_array_equal(result.points, again.points)
    assert len(result) == 150
    np.testing.assert_array_equal(result.points[0], detection.keypoints.points[0])
    for point in (9, 10):
        for axis in (0, 1):
            wanted, got = driver.points[25:, point, axis], result.points[25:, point, axis]
            assert np.corrcoef(wanted, got)[0, 1] > 0.8, (point, axis)
    mouth = lambda k: k.points[25:, 65 + 14, 1] - k.points[25:, 65 + 13, 1]  # noqa: E731
    assert np.corrcoef(mouth(driver), mouth(result))[0, 1] > 0.9
    wrists = result.points[:, 9:11] / UNIT
    assert np.percentile(np.linalg.norm(np.diff(wrists, 2, axis=0), axis=-1) * 625, 99.9) < 65


def test_gaps_in_the_driving_are_bridged(detection: Detection) -> None:
    driver = run(Retargeter(detection), gesture())
    confidence, points = driver.confidence.copy(), driver.points.copy()
    confidence[60:66, :65] = 0
    points[60:66, :65] = 7.0
    confidence[100:, LEFT_HAND] = 0
    confidence[100:, 9] = 0
    points[30, 9] += 400  # a mistaken detection
    broken = replace(driver, points=points, confidence=confidence)
    result = Keypoints.concatenated(list(Retargeter(detection).stream_driving([broken])))
    assert np.isfinite(result.points).all()
    wrists = result.points[:, 9:11] / UNIT
    assert np.linalg.norm(np.diff(wrists, 2, axis=0), axis=-1).max() * 625 < 100
    # Nothing at all to see is legal, too: the person breathes.
    unseen = replace(driver, confidence=np.zeros_like(confidence))
    resting = Keypoints.concatenated(list(Retargeter(detection).stream_driving([unseen])))
    assert np.linalg.norm(resting.points - resting.points[0], axis=-1)[:, 5:65].max() < 0.012 * UNIT


def test_driving_at_another_rate_is_refused(detection: Detection) -> None:
    driver = replace(run(Retargeter(detection), gesture(30)), fps=30.0)
    with pytest.raises(ValueError, match="30"):
        list(Retargeter(detection).stream_driving([driver]))
