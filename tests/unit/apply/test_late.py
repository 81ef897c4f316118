"""Late arrivals: whatever comes when, the state is that of all operations in order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kora_daemon.apply.late import MOST_BYTES, History
from kora_daemon.materialization.fold import RecordState, fold, read_data, state_text
from kora_daemon.model.operation import Operation
from tests.support.records import Node


def some_operation(node: Node, chance: random.Random) -> Operation:
    at = (chance.randrange(40), chance.randrange(2), chance.choice("ab"))
    kind = chance.choices(("insert", "update", "delete"), (1, 12, 1))[0]
    if kind == "delete":
        return node.delete("r", at=at)
    data: dict[str, Any] = {name: chance.choice((1, 1.5, True, "x", None, [1])) for name in chance.sample("abc", 2)}
    if kind == "insert":
        return node.insert("r", data, at=at)
    atomic = None
    if chance.random() < 0.4:
        name = chance.choice(list(data))
        atomic = {
            name: {"type": chance.choice(("increment", "max", "append", "remove")), "value": chance.choice((1, 2))}
        }
    return node.update("r", data, at=at, atomic=atomic)


def texts(state: RecordState) -> str:
    return state_text(state)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_late_is_folded_in_where_it_belongs(seed: int) -> None:
    chance, node = random.Random(seed), Node()
    known = [some_operation(node, chance) for _ in range(chance.choice((1, 3, 64, 130, 200)))]
    history = History.of(sorted(known, key=lambda one: one.timestamp.order_key), MOST_BYTES)
    assert history is not None
    for _ in range(150):
        operation = some_operation(node, chance)
        state = history.state_with(operation, read_data(operation))
        assert texts(state) == texts(fold([*known, operation]))
        if chance.random() < 0.8:  # others are refused
            history.take(operation, read_data(operation))
            known.append(operation)


def test_what_is_tried_again_and_what_is_taken_without_a_try_count_once() -> None:
    node = Node()
    first, second, third = (node.update("r", {"n": 0}, atomic={"n": {"type": "increment", "value": 1}}) for _ in "abc")
    history = History.of([first], MOST_BYTES)
    assert history is not None
    history.state_with(second, read_data(second))
    history.state_with(third, read_data(third))
    history.state_with(second, read_data(second))
    history.take(second, read_data(second))
    history.take(third, read_data(third))
    late = node.update("r", {"m": 0}, at=0)
    assert texts(history.state_with(late, read_data(late))) == texts(fold([first, second, third, late]))


def test_a_history_that_is_too_large_is_not_held() -> None:
    node = Node()
    operations = [node.update("r", {"text": "x" * 1_000}) for _ in range(10)]
    assert History.of(operations, 15_000) is None
    held = History.of(operations, 30_000)
    assert held is not None
    assert 20_000 <= held.size_bytes <= 30_000
