"""A session may burst a minute's worth, run into debt with a batch, and waits until the debt is paid."""

from __future__ import annotations

import pytest

from kora_daemon.model import limits
from kora_daemon.model.limits import LiveBudget, OperationBudget


def test_a_session_is_ready_until_its_budget_is_used_up() -> None:
    budget = OperationBudget(100, 0)
    budget.take(99, 0)
    assert budget.ready_at(0) == 0
    budget.take(1, 0)
    assert budget.ready_at(0) == 1


def test_a_batch_beyond_the_budget_is_taken_whole_and_paid_off_in_time() -> None:
    budget = OperationBudget(60, 1000)
    budget.take(90, 1000)  # 30 in debt, refilled with one a second
    assert budget.ready_at(1000) == 31_001
    assert budget.ready_at(31_000) == 31_001
    assert budget.ready_at(31_001) == 31_001


def test_idle_time_is_worth_a_minute_at_most() -> None:
    budget = OperationBudget(60, 0)
    budget.take(120, 3_600_000)
    assert budget.ready_at(3_600_000) == 3_600_000 + 60_001


def test_refill_loses_nothing_to_rounding() -> None:
    budget = OperationBudget(7, 0)
    budget.take(7, 0)
    for now_ms in range(1, 60_001):
        budget.ready_at(now_ms)
    budget.take(7, 60_000)
    assert budget.ready_at(60_000) == 60_001


def test_a_clock_that_goes_back_stands_still() -> None:
    budget = OperationBudget(60, 10_000)
    budget.take(61, 10_000)
    assert budget.ready_at(5_000) == 11_001
    assert budget.ready_at(10_500) == 11_001


def test_a_full_budget_loses_nothing_when_the_clock_goes_back() -> None:
    budget = OperationBudget(60, 100_000)
    assert budget.ready_at(0) == 0


def test_an_empty_batch_is_free() -> None:
    budget = OperationBudget(1, 0)
    budget.take(0, 0)
    budget.take(0, 0)
    assert budget.ready_at(0) == 0


@pytest.mark.parametrize("rate", [0, -1])
def test_a_budget_of_nothing_is_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        OperationBudget(rate, 0)


def test_live_traffic_is_dropped_beyond_a_number_of_messages_and_nothing_is_owed_for_it() -> None:
    budget = LiveBudget(0)
    said = sum(budget.pay(1, 0) for _ in range(2 * limits.LIVE_MESSAGES_PER_MINUTE))
    assert (said, budget.refused) == (limits.LIVE_MESSAGES_PER_MINUTE,) * 2
    assert sum(budget.pay(1, 1_001) for _ in range(1_000)) == limits.LIVE_MESSAGES_PER_MINUTE // 60 + 1


def test_and_beyond_a_number_of_bytes() -> None:
    budget = LiveBudget(0)
    size = limits.LIVE_BYTES_PER_MINUTE // 10
    assert sum(budget.pay(size, 0) for _ in range(100)) == 10
    assert not budget.pay(1, 0)
    assert not budget.pay(0, 0)
    assert budget.pay(size, 1_000)
