"""Many files measured in processes of their own: a file that kills its process takes no other along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

Item = TypeVar("Item")
DIED = "the process that measured it died; is the file damaged, or is memory short?"


def measure_each(
    work: Callable[[Item], Any],  # of a module, for it is sent to processes
    items: Sequence[Item],
    workers: int,
    ended: Callable[[Item, Any, BaseException | None], None],
) -> None:
    """Call `work` on every item and `ended(item, result, error)` as each ends, from any thread.

    When a process dies, all that were under way or waiting are done again, each in a process of its own; one that
    dies there too ends with a ValueError.
    """
    if not items:
        return

    def run(some: Sequence[Item], count: int) -> list[Item]:
        """Measure these; those that a dead process left come back."""
        lost = []
        # Spawned, because forking a process with compiled and threaded libraries can hang.
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(work, item): item for item in some}
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        lost.append(futures[future])
                    else:
                        ended(futures[future], None if error else future.result(), error)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return lost

    lost = run(items, min(workers, len(items)))

    def alone(item: Item) -> None:
        if run([item], 1):
            ended(item, None, ValueError(DIED))

    with ThreadPoolExecutor(workers) as threads:  # each waits for a process of its own
        list(threads.map(alone, lost))
