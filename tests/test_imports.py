"""Imports go one way: pose knows none of ours, avatar knows three modules of pose, nothing knows train or infer."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "pose": ("pose",),
    "avatar": ("avatar", "pose.keypoints", "pose.draw", "pose.skeleton"),
    "train": ("train", "pose", "avatar"),
    "infer": ("infer", "pose", "avatar"),
}
OURS = tuple(ALLOWED)


def imported(path: Path) -> list[str]:
    """Full names of every module that a file imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction; write the whole name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", OURS)
def test_imports_go_one_way(package):
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in imported(path)
        if any(inside(name, ours) for ours in OURS) and not any(inside(name, ok) for ok in ALLOWED[package])
    ]
    assert not wrong, "imports against the direction of DESIGN: " + "; ".join(wrong)


def test_mediapipe_only_in_detect():
    users = {
        str(path.relative_to(ROOT))
        for package in OURS
        for path in (ROOT / package).rglob("*.py")
        if any(inside(name, "mediapipe") for name in imported(path))
    }
    assert users <= {"pose/detect.py"}
