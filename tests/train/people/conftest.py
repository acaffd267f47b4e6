"""A made-up body in MakeHuman's formats (an A-pose with curled fingers), and the real one where it is present."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

REAL = Path(os.environ.get("RHETOR_PEOPLE_ASSETS", Path(__file__).resolve().parents[4] / "shared/data/makehuman"))
MIDDLE = {
    "root": (0, 0, 0), "spine05": (0, 1, 0), "spine04": (0, 2, 0), "spine03": (0, 3, 0), "spine02": (0, 4, 0),
    "spine01": (0, 5, 0), "neck01": (0, 6, 0), "neck02": (0, 6.5, 0), "neck03": (0, 7, 0), "head": (0, 7.3, 0),
}  # fmt: skip


def joints() -> dict[str, tuple[tuple[float, ...], tuple[float, ...], str | None]]:
    """bone: (head, tail, parent), decimetres."""
    names = list(MIDDLE)
    bones = {
        name: (MIDDLE[name], MIDDLE[names[k + 1]] if k + 1 < len(names) else (0, 8.5, 0), names[k - 1] if k else None)
        for k, name in enumerate(names)
    }
    for side, sign in (("L", 1.0), ("R", -1.0)):

        def at(x, y, z, sign=sign):
            return (sign * x, y, z)

        chain = {
            "clavicle": (at(0.3, 5.6, 0), at(1.5, 5.7, 0), "spine01"),
            "shoulder01": (at(1.0, 5.6, 0), at(1.7, 5.5, 0), "clavicle"),
            "upperarm01": (at(1.7, 5.5, 0), at(2.4, 4.6, 0), "shoulder01"),
            "upperarm02": (at(2.4, 4.6, 0), at(3.2, 3.6, 0), "upperarm01"),
            "lowerarm01": (at(3.2, 3.6, 0), at(3.7, 3.1, 0.8), "upperarm02"),
            "lowerarm02": (at(3.7, 3.1, 0.8), at(4.3, 2.5, 1.7), "lowerarm01"),
            "wrist": (at(4.3, 2.5, 1.7), at(4.5, 2.3, 2.0), "lowerarm02"),
            "eye": (at(0.33, 7.8, 0.9), at(0.33, 7.8, 1.2), "head"),
            "upperleg01": (at(1.0, -0.4, 0), at(1.0, -4.5, 0), "root"),
            "toe1-1": (at(1.0, -8.4, 0.8), at(1.0, -8.5, 1.5), "upperleg01"),
        }
        along = np.array((sign * 0.45, -0.45, 0.77))
        for finger in range(1, 6):
            start = np.array(at(4.3, 2.5, 1.7)) + (0.3 if finger == 1 else 0.9) * along
            start = start + np.array((0, 0, 0.25 * (3.5 - finger)))  # the thumb in front
            way = along if finger > 1 else along + np.array((-sign * 0.5, 0.1, 0.6))
            parent = "wrist"
            for joint in (1, 2, 3):
                bend = way + 0.25 * joint * np.array((0, -0.5, -0.2))
                end = start + 0.35 * bend / np.linalg.norm(bend)
                chain[f"finger{finger}-{joint}"] = (tuple(start), tuple(end), parent)
                start, parent = end, f"finger{finger}-{joint}"
        for name, (head, tail, parent) in chain.items():
            sided = parent if parent in MIDDLE else f"{parent}.{side}"
            bones[f"{name}.{side}"] = (head, tail, sided)
    return bones


@pytest.fixture(scope="session")
def made_up(tmp_path_factory) -> Path:
    """A folder that `BaseMesh` takes: every bone has two vertices, its head and its tail, which move with it."""
    root = tmp_path_factory.mktemp("assets")
    data = root / "makehuman" / "data"
    for folder in (data / "3dobjs", data / "rigs", data / "targets/macrodetails", root / "base/clothes"):
        folder.mkdir(parents=True)
    for folder in (root / "base/hair", root / "base/teeth/teeth_base"):
        folder.mkdir(parents=True)
    (root / "base/teeth/teeth_base/teeth_base.mhclo").write_text("obj_file teeth_base.obj\n")
    lines, rig, weights = [], {"bones": {}, "joints": {}}, {}
    for number, (name, (head, tail, parent)) in enumerate(joints().items()):
        lines += ["v {:.6f} {:.6f} {:.6f}".format(*point) for point in (head, tail)]
        rig["joints"] |= {f"{name}-head": [2 * number], f"{name}-tail": [2 * number + 1]}
        rig["bones"][name] = {"head": f"{name}-head", "tail": f"{name}-tail", "parent": parent}
        weights[name] = [[2 * number, 1.0], [2 * number + 1, 0.5]]
    lines += ["g body", "f 1 2 3", "f 2 3 4 5"]
    (data / "3dobjs/base.obj").write_text("\n".join(lines) + "\n")
    (data / "rigs/default.mhskel").write_text(json.dumps(rig))
    (data / "rigs/default_weights.mhw").write_text(json.dumps({"weights": weights}))
    return root


@pytest.fixture(scope="session")
def real() -> Path:
    """The CC0 human data; tests that need it are skipped without."""
    if not (REAL / "makehuman/data/3dobjs/base.obj").exists():
        pytest.skip("no CC0 human data; name its folder in RHETOR_PEOPLE_ASSETS")
    return REAL


@pytest.fixture(scope="session")
def opengl() -> None:
    """Tests that draw are skipped where there is no OpenGL."""
    moderngl = pytest.importorskip("moderngl")
    try:
        moderngl.create_context(standalone=True, backend="egl", require=330).release()
    except Exception as error:
        pytest.skip(f"no OpenGL through EGL: {error}")
