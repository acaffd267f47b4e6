"""Round trips between the notations, and agreement with SciPy's independent implementation."""

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose import rotations as r


@pytest.fixture
def matrices() -> np.ndarray:
    """300 random rotations, then the awkward ones: identity, tiny angles, half turns, gimbal lock in every order."""
    random = Rotation.random(300, random_state=1).as_matrix()
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3)).as_matrix()
    tiny = Rotation.from_rotvec(1e-9 * np.eye(3)).as_matrix()
    near_half = Rotation.from_rotvec((np.pi - 1e-9) * np.array([[0.6, 0.8, 0.0]])).as_matrix()
    quarter = Rotation.from_euler("XYZ", np.array(np.meshgrid(*[[-90, 0, 90]] * 3)).reshape(3, -1).T, degrees=True)
    return np.concatenate([random, np.eye(3)[None], half_turns, tiny, near_half, quarter.as_matrix()])


def test_every_notation_gives_the_matrix_back(matrices: np.ndarray) -> None:
    for there, back in (
        (r.matrix_to_axis_angle, r.axis_angle_to_matrix),
        (r.matrix_to_quaternion, r.quaternion_to_matrix),
        (r.matrix_to_sixd, r.sixd_to_matrix),
    ):
        np.testing.assert_allclose(back(there(matrices)), matrices, atol=1e-9, err_msg=there.__name__)


@pytest.mark.parametrize("order", ["".join(p) for p in permutations("XYZ")])
def test_euler_orders(matrices: np.ndarray, order: str) -> None:
    angles = r.matrix_to_euler(matrices, order)
    np.testing.assert_allclose(r.euler_to_matrix(angles, order), matrices, atol=1e-9)
    assert (np.abs(angles[:, 1]) <= np.pi / 2 + 1e-12).all()
    np.testing.assert_allclose(
        r.euler_to_matrix(angles, order), Rotation.from_euler(order, angles).as_matrix(), atol=1e-9
    )


def test_euler_survives_single_precision(matrices: np.ndarray) -> None:
    single = matrices.astype(np.float32)
    for order in ("XYZ", "ZYX"):
        np.testing.assert_allclose(r.euler_to_matrix(r.matrix_to_euler(single, order), order), matrices, atol=5e-7)


def test_agrees_with_scipy(matrices: np.ndarray) -> None:
    theirs = Rotation.from_matrix(matrices[:300])
    np.testing.assert_allclose(r.matrix_to_axis_angle(matrices[:300]), theirs.as_rotvec(), atol=1e-9)
    ours = r.matrix_to_quaternion(matrices[:300])
    scipy_wxyz = np.roll(theirs.as_quat(), 1, -1)
    np.testing.assert_allclose(ours, scipy_wxyz * np.sign(scipy_wxyz[:, :1]), atol=1e-9)


def test_sixd_holds_columns_and_accepts_any_two_directions() -> None:
    matrix = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    np.testing.assert_allclose(r.matrix_to_sixd(matrix), np.concatenate([matrix[:, 0], matrix[:, 1]]))
    noisy = r.sixd_to_matrix(np.random.default_rng(0).normal(size=(50, 6)))
    np.testing.assert_allclose(noisy @ noisy.swapaxes(-1, -2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(noisy), 1, atol=1e-9)


def test_rotation_between_turns_one_direction_into_the_other() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(size=(2, 100, 3))
    b[0], b[1] = a[0], -a[1]
    turned = np.einsum("nab,nb->na", r.rotation_between(a, b), r.normalized(a))
    np.testing.assert_allclose(turned, r.normalized(b), atol=1e-8)


def test_leading_shapes_are_kept() -> None:
    assert r.axis_angle_to_matrix(np.zeros((2, 3, 4, 3))).shape == (2, 3, 4, 3, 3)
    assert r.matrix_to_euler(np.tile(np.eye(3), (5, 2, 1, 1)), "ZXY").shape == (5, 2, 3)
    assert r.matrix_to_quaternion(np.eye(3)).shape == (4,)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="XYQ"):
        r.euler_to_matrix(np.zeros(3), "XYQ")
    with pytest.raises(ValueError, match="once each"):
        r.matrix_to_euler(np.eye(3), "XYX")
    with pytest.raises(ValueError, match=r"\(6,\)"):
        r.sixd_to_matrix(np.zeros(5))
