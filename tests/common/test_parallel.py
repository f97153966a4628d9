import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from src.common.processes import chunks, map_in_order


def test_results_come_in_order_and_items_are_taken_as_they_are_used() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    with ThreadPoolExecutor(4) as pool:
        results = map_in_order(pool, work, items(), 10)
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        assert taken == 14
        assert list(results) == [number**2 for number in range(5, 100)]


def test_an_error_comes_where_its_result_would() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = map_in_order(pool, lambda number: 6 // number, [1, 2, 0, 3], 4)
        assert [next(results), next(results)] == [6, 3]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_chunks_hold_everything_once() -> None:
    assert list(chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks([], 3)) == []
