"""Files measured in processes of their own, one of which kills its process."""

import os

from infer.processes import DIED, measure_each


def work(item: str) -> str:
    if item == "deadly":
        os._exit(3)
    if item == "wrong":
        raise ValueError("wrong input")
    return item.upper()


def test_a_file_that_kills_its_process_takes_no_other_along():
    results = {}
    measure_each(work, ["a", "deadly", "wrong", "b"], 2, lambda item, *end: results.__setitem__(item, end))
    assert set(results) == {"a", "deadly", "wrong", "b"}
    assert results["a"] == ("A", None) and results["b"] == ("B", None)
    assert str(results["deadly"][1]) == DIED and str(results["wrong"][1]) == "wrong input"


def test_nothing_to_do_starts_nothing():
    measure_each(work, [], 2, lambda *end: None)
