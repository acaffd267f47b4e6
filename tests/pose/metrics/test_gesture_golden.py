"""Every golden number: the authors' released functions on the seeded arrays of conftest.py gave these.

To renew one, run the released function named beside it on those arrays (copies: several write into their input); a
change here without a change there means that ours is wrong.
"""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from pose.metrics import beats, diversity, face, frechet, mixtures, recall
from pose.metrics.direction_beats import beat_consistency_directions

TIGHT = 1e-6


def close(value, expected, tolerance=TIGHT):
    assert value == pytest.approx(expected, rel=tolerance)


def test_beat_align(golden):
    # PantoMatrix 6ca70b9 BEAT_2022/utils/metric.py alignment(.3, 2); the second with sr=16000 in frames_to_time.
    close(beats.beat_align_euler(golden["audio60"], golden["beat_pred"]), 0.9201556664044243)
    close(beats.beat_align_euler(golden["audio60"], golden["beat_pred"], "beat_v1_clock"), 0.910162913089097)


@pytest.mark.parametrize(
    ("variant", "expected"), [("emage_2024", 0.7750022843112931), ("emage_evaltools", 0.8266895254307656)]
)
def test_position_bc(golden, variant, expected):
    # PantoMatrix 6ca70b9 EMAGE_2024/utils/metric.py alignment(.3, 7) and 0bbb03d emage_evaltools BC.
    close(beats.beat_consistency_positions(golden["audio20"], golden["pos"], golden["mmae"], variant), expected)


@pytest.mark.parametrize(
    ("variant", "key", "expected"),
    [
        ("diffgesture_ted", "ted_unit", 0.8577218325590433),
        ("diffgesture_expressive", "exp_unit", 0.75626473129659),
        ("diffgesture_expressive_released", "exp_unit", 0.7721920814288343),
        ("ha2g_expressive", "exp_unit", 0.75626473129659),
    ],
)
def test_direction_bc(golden, variant, key, expected):
    # DiffGesture scripts/test_ted.py and test_expressive.py, HA2G scripts/train_expressive.py.
    close(beat_consistency_directions(golden["audio_ted"], golden[key], variant), expected)


def test_arm_bc(golden):
    # TalkSHOW evaluation/FGD.py get_BCscore on joints drawn here.
    random = np.random.default_rng(11)
    joints = random.normal(0, 0.004, (2, 600, 55, 3)).cumsum(1) + random.normal(0, 0.3, (1, 1, 55, 3))
    close(beats.beat_consistency_arms([golden["audio20"], golden["audio5"]], joints), 0.9430452380143028)


def test_expression_bc(golden):
    # SAiD said/metric/beat_consistency.py.
    moves = np.random.default_rng(3).normal(0, 0.02, (1200, 32)).cumsum(0) * 0.2
    faces = [golden["bs"], np.clip(0.3 + moves, 0, 1)]
    close(beats.beat_consistency_expression([golden["audio5"], golden["audio20"]], faces), 0.940403389769054)


def test_l1_diversity(golden):
    close(diversity.l1_diversity([golden["beat_pred"]]), 1970.5375614278912)
    close(diversity.l1_diversity([golden["beat_pred"].reshape(30, 30, 141)], "beat"), 1970.5375614278912)
    close(diversity.l1_diversity([golden["pos"]]), 13.047598983349443)


def test_srgr(golden):
    pred, true, semantic = golden["beat_pred"], golden["beat_gt"], golden["beat_sem"]
    close(recall.srgr(pred, true, semantic), 1.1638369510709934)
    close(recall.srgr(pred, true, semantic, "emage_evaltools"), 1.3940826706784155)
    close(recall.srgr(pred, true, None, "emage_evaltools"), 0.9890307328605201)


def test_face_vertices(golden):
    close(face.landmark_velocity_difference(golden["lvd_p"], golden["lvd_t"]), 0.0006943820279624559)
    close(recall.mean_squared_error(golden["lvd_p"], golden["lvd_t"]), 0.0001193986237559268)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("symmetric", 118.50105648943997),
        ("pytorch_fid", 118.50105648943997),
        ("emage_evaltools", 118.5009258939383),
    ],
)
def test_frechet(golden, variant, expected):
    close(frechet.frechet_distance(golden["fA"], golden["fB"], variant), expected)


def test_expression_distance(golden):
    close(frechet.frechet_distance(golden["z1"], golden["z2"], "pytorch_fid"), 0.03207917745536548)
    close(diversity.multimodality(golden["z1"], golden["z2"]), 1.3602724079767778)


def test_wind(golden):
    # SAiD said/metric/wind.py with scikit-learn's fit after np.random.seed(0), (1) and (2).
    for seed in range(3):
        random = np.random.RandomState(seed)
        first, second = (mixtures.fit_mixture(golden[key], 5, random) for key in ("z1", "z2"))
        close(mixtures.mixture_distance(first, second), 0.40168802, 1e-5)


def test_wind_of_a_known_plan():
    """Two components each, equal covariances: the plan is the cheaper of two, moving what does not fit."""
    covariance = np.stack([np.eye(2)] * 2)
    first = mixtures.Mixture(np.array([[0.0, 0], [10, 0]]), covariance, np.array([0.5, 0.5]))
    second = mixtures.Mixture(np.array([[1.0, 0], [12, 0]]), covariance, np.array([0.75, 0.25]))
    # 0.5 from 0 to 1 (1 each), 0.25 from 10 to 12 (4), 0.25 from 10 to 1 (81).
    assert mixtures.mixture_distance(first, second) == pytest.approx(0.5 + 1.0 + 20.25, rel=1e-9)


def gaussians(features, covariance):
    """A mixture of the five blocks of 80 of which the recipe makes z1 and z2."""
    blocks = features.reshape(5, 80, 8)
    return blocks.mean(1), np.stack([covariance(block) for block in blocks])


@pytest.mark.parametrize("shares", [(4, 4, 4, 4, 4), (2, 3, 4, 5, 6), (10, 1, 1, 1, 7)])
def test_wind_of_fixed_mixtures(golden, shares):
    """Weights of 20ths, each 20th moved as a whole: the assignment problem has the same least cost as the plan."""
    full = [gaussians(golden[key], lambda block: np.cov(block.T, ddof=0)) for key in ("z1", "z2")]
    weights = [np.array(shares) / 20, np.full(5, 0.2)]
    first, second = (mixtures.Mixture(*parts, weight) for parts, weight in zip(full, weights, strict=True))
    cost = [
        [frechet.gaussian_distance(a, x, b, y) for b, y in zip(second.means, second.covariances, strict=True)]
        for a, x in zip(first.means, first.covariances, strict=True)
    ]
    pieces = np.repeat(np.repeat(cost, shares, axis=0), 4, axis=1)
    least = pieces[linear_sum_assignment(pieces)].mean()
    close(mixtures.mixture_distance(first, second), least)
    # SAiD's wind(), by glpk, on the same mixtures.
    released = {
        (4, 4, 4, 4, 4): 0.3697062092591251,
        (2, 3, 4, 5, 6): 3.7240045412067597,
        (10, 1, 1, 1, 7): 7.116819329773586,
    }
    close(mixtures.mixture_distance(first, second), released[shares])


def test_wind_in_closed_form():
    """Round Gaussians s²I in D dimensions: a component costs |m1 - m2|² + D (s1 - s2)², by hand."""
    means1 = np.array([[-1.0], [0], [1], [2], [3]]) * np.ones(8)
    means2 = np.array([[-1.2], [0.1], [1.1], [2.2], [2.7]]) * np.ones(8)
    first = mixtures.Mixture(means1, np.stack([0.09 * np.eye(8)] * 5), np.full(5, 0.2))
    second = mixtures.Mixture(means2, np.stack([0.1225 * np.eye(8)] * 5), np.full(5, 0.2))
    close(mixtures.mixture_distance(first, second), 8 * (0.04 + 0.01 + 0.01 + 0.04 + 0.09) / 5 + 8 * 0.05**2)
