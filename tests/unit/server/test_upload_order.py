"""Which upload has its turn."""

from __future__ import annotations

import itertools

import pytest
from msgspec import UNSET

from kora_daemon.server.upload_order import UploadOrder
from kora_daemon.wire.glimpse import Glimpse

LIVE = Glimpse("operation-batch")


def missed(index: int, total: int, *, says_total: bool = True) -> Glimpse:
    """Batch `index` of `total` with what was written while the device was away."""
    return Glimpse(
        "operation-batch", batch_index=index, is_final=index == total - 1, total_batches=total if says_total else UNSET
    )


def taken(arrived: list[Glimpse], *, says_total: bool) -> list[Glimpse]:
    """In which order batches that arrive in another one are taken, as far as they are."""
    order, waiting, found = UploadOrder(says_total=says_total), list(arrived), []
    while turns := [one for one in waiting if order.has_turn(one)]:
        order.took(turns[0])
        waiting.remove(turns[0])
        found.append(turns[0])
    return found


@pytest.mark.parametrize("says_total", [True, False])
def test_what_was_missed_comes_in_order_and_before_what_is_new(says_total: bool) -> None:
    batches = [missed(index, 3, says_total=says_total) for index in range(3)]
    for arrived in itertools.permutations(batches):
        assert taken(list(arrived), says_total=says_total) == batches


def test_a_live_batch_waits_for_all_that_was_missed() -> None:
    first, second = missed(0, 2), missed(1, 2)
    for arrived in itertools.permutations([first, second, LIVE]):
        assert taken(list(arrived), says_total=True) == [first, second, LIVE]


@pytest.mark.parametrize("says_total", [True, False])
def test_nothing_is_taken_behind_a_batch_that_is_missing(says_total: bool) -> None:
    batches = [missed(index, 3, says_total=says_total) for index in range(3)]
    assert taken([batches[0], batches[2], LIVE], says_total=says_total) == batches[:1]
    assert taken([batches[2], batches[1]], says_total=says_total) == []


def test_a_device_that_says_no_total_may_begin_with_a_live_batch() -> None:
    assert taken([LIVE], says_total=True) == []
    assert taken([LIVE], says_total=False) == [LIVE]


def test_a_batch_that_can_t_say_a_total_goes_by_its_index() -> None:
    batches = [
        Glimpse("operation-batch", batch_index=index, is_final=index == 1, total_batches=None) for index in range(2)
    ]
    assert taken([batches[1], LIVE, batches[0]], says_total=True) == [*batches, LIVE]


def test_once_all_is_there_every_batch_has_its_turn() -> None:
    order = UploadOrder(says_total=True)
    order.took(missed(0, 1))
    for _ in range(3):
        assert order.has_turn(LIVE)
        order.took(LIVE)


def test_what_was_missed_may_come_once_more_in_order() -> None:
    batches = [missed(index, 2) for index in range(2)]
    again = [missed(index, 3) for index in range(3)]
    order = UploadOrder(says_total=True)
    for batch in batches:
        order.took(batch)
    assert [order.has_turn(one) for one in again] == [True, False, False]
    order.took(again[0])
    assert not order.has_turn(LIVE)
    assert [order.has_turn(one) for one in again] == [False, True, False]


@pytest.mark.parametrize("index", ["0", None, [], UNSET])
def test_what_is_no_batch_is_not_waited_for(index: object) -> None:
    assert UploadOrder(says_total=False).has_turn(Glimpse("operation-batch", batch_index=index))
