"""Strategies for what clients write: JSON values of every shape, and operations."""

from __future__ import annotations

from hypothesis import strategies as st

whole_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
half_characters = st.sampled_from(["\ud800", "\udfff"])
any_text = st.lists(st.characters() | half_characters, max_size=5).map("".join) | whole_text
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**400)
scalars = st.none() | st.booleans() | numbers | any_text
json_values = st.recursive(
    scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(any_text, children, max_size=4),
    max_leaves=8,
)
json_objects = st.dictionaries(any_text, json_values, max_size=4)
keys = whole_text.filter(bool)
integers = st.integers(0, 2**53 - 1)
atomics = st.dictionaries(
    whole_text,
    st.fixed_dictionaries({"type": st.just("increment"), "value": st.integers(-5, 5)})
    | st.fixed_dictionaries({"type": st.sampled_from(["append", "remove"]), "value": json_values}),
    max_size=3,
)
operations = st.fixed_dictionaries(
    {
        "id": keys,
        "nodeId": keys,
        "type": st.sampled_from(["insert", "update", "delete"]),
        "collection": keys,
        "recordId": keys,
        "timestamp": st.fixed_dictionaries({"wallTime": integers, "logical": integers, "nodeId": keys}),
        "sequenceNumber": integers,
        "causalDeps": st.lists(keys, max_size=3),
        "schemaVersion": st.integers(1, 2**53 - 1),
        "data": st.none() | json_objects,
        "previousData": st.none() | json_objects,
    },
    optional={
        "atomicOps": st.none() | atomics,
        "transactionId": st.none() | whole_text,
        "mutationName": st.none() | whole_text,
        "extra": json_values,
    },
)
