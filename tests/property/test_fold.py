"""The fold of any operations: the order of arrival is of no matter, nor is folding them one by one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from kora_daemon.materialization.atomic import compose, read_intents
from kora_daemon.materialization.fold import RecordState, advance, fold, parse_state, state_text
from kora_daemon.materialization.json_text import read_json
from kora_daemon.model.operation import NULL, Operation, Timestamp
from tests.support.log import operation

scalar_texts = st.sampled_from(
    [
        *("null", "true", "0", "-0", "-0.0", "1", "1.0", "0.1", "5e-324", "1e308", "-1e308", "1e400", "-1e400"),
        *("9007199254740993", "123456789012345678901234567890", "1" + "0" * 5_000),
        *('""', '"text"', '"\\ud800"', '"\\ude00\\ud83d"', '"\\ud83d\\ude00"', '"\\u0000"', '"😀"'),
    ]
)
value_texts = st.recursive(
    scalar_texts,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda texts: f"[{','.join(texts)}]")
        | st.lists(st.tuples(st.sampled_from(["a", "b", "1", "\\ud800"]), inner), max_size=3).map(
            lambda members: "{" + ",".join(f'"{key}":{text}' for key, text in members) + "}"
        )
    ),
    max_leaves=5,
)
number_texts = st.sampled_from(["1", "-2", "0.1", "1e308", "-1e308", "0", "-0"])
field_texts = st.sampled_from(["n", "list", "\\udc00"])
intent_texts = st.one_of(
    st.tuples(st.sampled_from(["increment", "max", "min"]), number_texts),
    st.tuples(st.sampled_from(["append", "remove"]), value_texts),
).map(lambda intent: f'{{"type":"{intent[0]}","value":{intent[1]}}}')


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[Raw]:
    """Raw JSON objects with these values."""
    members = st.dictionaries(field_texts, values, max_size=3)
    return members.map(
        lambda texts: Raw(("{" + ",".join(f'"{field}":{text}' for field, text in texts.items()) + "}").encode())
    )


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """What an operation does; chains of one atomic type are likely."""
    kind = draw(st.sampled_from(["insert", "update", "update", "update", "update", "delete"]))
    return {
        "type": kind,
        "data": draw(objects(value_texts) | st.just(NULL)) if kind != "delete" else NULL,
        "atomic_ops": draw(st.just(UNSET) | objects(intent_texts)),
    }


places = st.tuples(st.integers(1, 4), st.integers(0, 2), st.sampled_from(["B", "a", "node-é"]))


@st.composite
def histories(draw: st.DrawFn, *, unique_places: bool) -> list[Operation]:
    found = draw(st.lists(places, min_size=1, max_size=12, unique=unique_places))
    return [
        operation(number, record_id="r", timestamp=Timestamp(*place), **draw(changes()))
        for number, place in enumerate(found)
    ]


def by_the_book(operations: list[Operation]) -> tuple[bool, dict[str, Any], dict[str, str]]:
    """The pseudo code of store.md section 5, as it stands there."""
    record: dict[str, Any] | None = None
    deleted = False
    writer: dict[str, str] = {}
    for one in sorted(operations, key=lambda one: one.timestamp.order_key):
        data: Any = read_json(one.data)
        if one.type == "delete":
            deleted = True
        elif data is not None and one.type == "insert":
            record, deleted = dict(data), False
            writer |= dict.fromkeys(data, "plain")
        elif data is not None:
            record, deleted = dict(record or {}), False
            intents = {} if one.atomic_ops is UNSET else read_intents(read_json(one.atomic_ops))
            for field, value in data.items():
                intent = intents.get(field)
                if intent and writer.get(field) == intent.type:
                    record[field] = compose(intent, record.get(field))
                else:
                    record[field] = value
                writer[field] = intent.type if intent else "plain"
    live = record is not None and not deleted
    return live, record or {}, {field: kind for field, kind in writer.items() if kind != "plain"}


@settings(deadline=None)
@given(histories(unique_places=False))
def test_the_fold_is_the_one_in_the_book(history: list[Operation]) -> None:
    state = fold(history)
    assert (state.live, state.fields, state.atomic_writers) == by_the_book(history)
    in_order = sorted(one.timestamp.order_key for one in history)
    assert (state.created_at_ms, state.last, state.updated_at_ms) == (in_order[0][0], in_order[-1], in_order[-1][0])


@settings(deadline=None)
@given(histories(unique_places=True), st.data())
def test_the_order_of_arrival_is_of_no_matter(history: list[Operation], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(history))
    assert fold(shuffled) == fold(history)
    assert state_text(fold(shuffled)) == state_text(fold(history))


@settings(deadline=None)
@given(histories(unique_places=False))
def test_one_by_one_and_kept_as_text_in_between_gives_the_same(history: list[Operation]) -> None:
    state: RecordState | None = None
    for count, arrived in enumerate(history, start=1):
        older = state is not None and arrived.timestamp.order_key < state.last
        after = advance(state and parse_state(state_text(state)), arrived)
        assert (after is None) == older
        state = fold(history[:count]) if after is None else after
        assert state == fold(history[:count])
        assert state_text(state) == state_text(fold(history[:count]))


@settings(deadline=None)
@given(histories(unique_places=False))
def test_a_state_survives_as_text(history: list[Operation]) -> None:
    state = fold(history)
    text = state_text(state)
    assert parse_state(text) == state
    assert parse_state(text.encode()) == state
    assert "\n" not in text


@settings(deadline=None)
@given(histories(unique_places=False), changes())
def test_a_state_is_never_changed_in_place(history: list[Operation], change: dict[str, Any]) -> None:
    state = fold(history)
    before = state_text(state)
    advance(state, operation(99, record_id="r", timestamp=Timestamp(9, 0, "a"), **change))
    assert state_text(state) == before
