"""Stores keep the states that they wrote last. Whoever writes beside them, and whatever fails, none is out of date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.materialization.fold import fold
from kora_daemon.materialization.shape import Refill
from kora_daemon.model.operation import Operation
from kora_daemon.store.contract import Store
from tests.support.log import RECEIVED_AT_MS
from tests.support.records import (
    TODOS,
    Node,
    append,
    apply,
    bring_to,
    fail_after,
    inside,
    key,
    live,
    refill_all,
    schema_of,
    states,
)
from tests.support.stores import RECORD_STORES, beside

IDS = ("a", "b", "c")
WIDER = schema_of(2, todos={"title": "string", "n": "number", "more": "string"})


def written(store: Store, node: Node, dice: Random) -> None:
    apply(store, *changes(node, dice))


def appended_by_another_server(store: Store, node: Node, dice: Random) -> None:
    inside(store, lambda tx: append(tx, *changes(node, dice)))


def failed(store: Store, node: Node, dice: Random) -> None:
    made = changes(Node("failing"), dice)
    fail_after(store, lambda tx: Pipeline(store.node_id).apply_batches(tx, [made], RECEIVED_AT_MS))


def made_again(store: Store, node: Node, dice: Random) -> None:
    inside(store, lambda tx: tx.set_refill("todos", Refill(dice.choice(["log", "states"]))))
    if dice.random() < 0.5:
        written(store, node, dice)
    refill_all(store)


def changes(node: Node, dice: Random) -> list[Operation]:
    return [
        node.write(
            dice.choice(["insert", "update", "update", "update", "delete"]),
            dice.choice(IDS),
            {"n": dice.randrange(100), **({"title": f"t{node.count}"} if dice.random() < 0.5 else {})},
        )
        for _ in range(dice.randrange(1, 4))
    ]


STEPS: list[Callable[[Store, Node, Random], None]] = [
    written,
    written,
    written,
    appended_by_another_server,
    failed,
    made_again,
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", RECORD_STORES)
def test_what_is_kept_is_what_the_log_says(name: str, seed: int, tmp_path: Path) -> None:
    kind, dice, node = RECORD_STORES[name], Random(seed), Node()
    one = kind(tmp_path)
    one.open()
    bring_to(one, TODOS)
    other = beside(kind, one)
    other.use_schema(TODOS)
    for step in range(25):
        dice.choice(STEPS)(dice.choice([one, other]), node, dice)
        if step == 12:
            bring_to(one, WIDER)
            other.use_schema(WIDER)
        written(dice.choice([one, other]), node, dice)
        histories = inside(one, lambda tx: {key(i): list(tx.history(key(i))) for i in IDS})
        expected = {found: fold(history) for found, history in histories.items() if history}
        assert states(one, map(key, IDS)) == states(other, map(key, IDS)) == expected
        shown = {found.record_id: state.fields for found, state in expected.items() if state.live}
        assert {row["id"]: (row["title"], row["n"]) for row in live(one)} == {
            record_id: (fields.get("title"), fields.get("n")) for record_id, fields in shown.items()
        }
    other.close()
    one.close()
