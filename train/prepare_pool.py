"""Many independent tasks over this process, a pool of processes, or the machines of a Ray cluster.

A task is a function of a module and plain arguments. A task that raises becomes a `Failure` in its place, one whose
process dies is given another try. Only a full disk stops everything.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AHEAD = 2  # tasks for each process that are handed out before one comes back
TRIES = 3  # of a task on a cluster whose worker or machine dies
DIED = "the process that worked on it died, twice (out of memory?)"
Task = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Failure:
    """What took the place of a result."""

    reason: str


class Pool:
    """`processes` here, or a Ray cluster at `ray` (an address, "local", or "auto"). A context manager."""

    def __init__(self, processes: int = 1, ray: str | None = None) -> None:
        if processes < 1:
            raise ValueError(f"--processes must be at least 1, got {processes}")
        self.processes, self._address = processes, ray
        self._executor: ProcessPoolExecutor | None = None
        self._remote: Any = None

    def __enter__(self) -> Pool:
        if self._address is not None:
            self._connect(self._address)
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        if self._remote is not None:
            import ray

            ray.shutdown()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """(number of the task, result or `Failure`), in the order in which they are done."""
        if self._remote is not None:
            yield from self._on_cluster(tasks)
        elif self.processes == 1 or len(tasks) == 1:
            for number, (function, arguments) in enumerate(tasks):
                yield number, _attempt(function, arguments)
        else:
            yield from self._in_processes(tasks)

    # ------------------------------------------------------------------ processes

    def _in_processes(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        waiting = list(range(len(tasks)))[::-1]
        running: dict[Future[Any], int] = {}
        while waiting or running:
            suspects: list[int] = []
            while waiting and len(running) < AHEAD * self.processes:
                number = waiting.pop()
                try:
                    running[self._fresh().submit(_attempt, *tasks[number])] = number
                except BrokenProcessPool:
                    suspects.append(number)
                    break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number = running.pop(future)
                try:
                    yield number, future.result()
                except BrokenProcessPool:
                    suspects.append(number)
            if suspects:  # one process died and took the pool with it: whose fault it was shows when they run alone
                suspects += running.values()
                running.clear()
                self._drop()
                for number in sorted(suspects):
                    yield number, self._alone(tasks[number])

    def _alone(self, task: Task) -> Any:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            try:
                return executor.submit(_attempt, *task).result()
            except BrokenProcessPool:
                return Failure(DIED)

    def _fresh(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # Not forked: the networks' threads would not survive it.
            self._executor = ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn"))
        return self._executor

    def _drop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    # ------------------------------------------------------------------ cluster

    def _connect(self, address: str) -> None:
        if ":" in address:  # ray itself waits for minutes
            host, _, port = address.rpartition("/")[2].rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=10).close()
            except (OSError, ValueError) as error:
                raise ValueError(f"no Ray cluster answers at {address} ({error}); `ray start --head`") from None
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning at every start
        import ray

        root = str(Path(__file__).resolve().parents[1])
        environment = {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
        try:
            ray.init(
                address=None if address == "local" else address,
                num_cpus=self.processes if address == "local" else None,
                include_dashboard=False if address == "local" else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env={"env_vars": environment},  # workers find the package where this process has it
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"no Ray cluster answers at {address} ({said}); `ray start --head`") from None
        self._remote = ray.remote(num_cpus=1, max_retries=TRIES)(_attempt)

    def _on_cluster(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        import ray

        waiting = list(range(len(tasks)))[::-1]
        running: dict[Any, int] = {}
        while waiting or running:
            ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < ahead:
                number = waiting.pop()
                running[self._remote.remote(*tasks[number])] = number
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                number = running.pop(reference)
                try:
                    yield number, ray.get(reference)
                except ray.exceptions.RayError as error:
                    if isinstance(error, OSError):  # a full disk there is one here
                        raise OSError(error.errno, str(error.strerror)) from None
                    yield number, Failure(f"the cluster lost it {TRIES + 1} times ({type(error).__name__})")


def _attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # whatever is wrong with one file must not stop the others
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
