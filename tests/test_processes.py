from __future__ import annotations

import pytest

from halbert.processes import cores, in_order, open_pool


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(count):
    asked: list[int] = []

    def items():
        for number in range(count):
            asked.append(number)
            yield number

    with open_pool(2) as pool:
        found = in_order(pool, square, items())
        if count == 50:
            assert next(found) == 0 and len(asked) < 50  # no more than a few are taken before they are needed
            assert list(found) == [number * number for number in range(1, 50)]
        else:
            assert list(found) == [number * number for number in range(count)]


def test_one_process_or_none_is_enough():
    assert list(in_order(None, square, range(5))) == [0, 1, 4, 9, 16]
    assert cores() >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_process_raises_is_raised_here(workers):
    with open_pool(workers) as pool, pytest.raises(ValueError, match="-3 is negative"):
        list(in_order(pool, square, [1, 2, -3, 4]))
