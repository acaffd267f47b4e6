"""Tasks over processes and Ray: a failure is a failure of one task, a killed process loses nothing."""

import logging
import os
import signal
import sys
import threading
import time

import pytest

from train.prepare_pool import Failure, Pool

TASKS = """
import os, pathlib, time

def double(x):
    if x == 3:
        raise ValueError("three\\nis not allowed")
    return 2 * x

def slow(folder, x):
    pathlib.Path(folder, f"{x}.{os.getpid()}").touch()
    time.sleep(0.15)
    return x * x

def deadly(folder, x):
    if x == 2:
        os._exit(1)
    return slow(folder, x)
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A module that other processes can import too."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "pool_tasks.py").write_text(TASKS)
    sys.path.insert(0, str(folder))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder) if not before else f"{folder}{os.pathsep}{before}"
    import pool_tasks

    yield pool_tasks
    sys.path.remove(str(folder))
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def results(pool, function, *arguments):
    return dict(pool.run([(function, (*arguments, x)) for x in range(8)]))


@pytest.mark.parametrize("processes", [1, 2])
def test_every_task_is_done_and_failures_stay_alone(tasks, processes):
    with Pool(processes) as pool:
        found = results(pool, tasks.double)
    assert found[3] == Failure("ValueError: three is not allowed")
    assert {k: v for k, v in found.items() if k != 3} == {k: 2 * k for k in range(8) if k != 3}


def test_a_task_that_kills_its_process_is_found_out(tasks, tmp_path):
    with Pool(2) as pool:
        found = results(pool, tasks.deadly, str(tmp_path))
    assert isinstance(found[2], Failure) and "died" in found[2].reason
    assert {k: v for k, v in found.items() if k != 2} == {k: k * k for k in range(8) if k != 2}


def kill_one(folder, started):
    """SIGKILL the process of the first task that starts; its process id."""
    while not (seen := sorted(folder.iterdir())):
        time.sleep(0.01)
    pid = int(seen[0].suffix[1:])
    os.kill(pid, signal.SIGKILL)
    started.append(pid)


@pytest.mark.parametrize("where", ["processes", "ray"])
def test_a_killed_worker_loses_nothing(tasks, tmp_path, where):
    logging.getLogger("ray").setLevel(logging.ERROR)
    killed = []
    killer = threading.Thread(target=kill_one, args=(tmp_path, killed))
    with Pool(2, "local" if where == "ray" else None) as pool:
        killer.start()
        found = results(pool, tasks.slow, str(tmp_path))
    killer.join()
    assert found == {k: k * k for k in range(8)}
    pids = {path.suffix for path in tmp_path.iterdir()}
    assert killed and len(pids) >= 2, "another process took over"


def test_wrong_places_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Pool(0)
    with pytest.raises(ValueError, match="no Ray cluster"), Pool(1, "127.0.0.1:1"):
        pass
