"""Checks state machines. Devices enforce them; nothing of one is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kora_daemon.model.schema import Field
from kora_daemon.schema_file.names import Names, field_name
from kora_daemon.schema_file.part import Part

_POLICIES = ("reject", "last-valid-state")


def check_transitions(part: Part, states: Collection[str]) -> None:
    """Check a table of state -> states that may follow."""
    for state, following in part.table("states, each with a list of the states that may follow").items():
        following.check_key(state, states, "state")
        for one in following.elements("a list of states"):
            one.one_of(states, "a state")


def check_state_machine(part: Part, collection: str, fields: Mapping[str, Field], names: Names) -> None:
    """Check the `stateMachine` of a collection whose fields in order are `fields`."""
    members = part.members("a field and its transitions", "field", "transitions", "onInvalidTransition")
    members["onInvalidTransition"].one_of(_POLICIES, "a policy")
    field = fields.get(field_name(members["field"], collection, names))
    if field is None:
        return
    if field.kind != "enum":
        members["field"].unfit("an enum field")
    else:
        check_transitions(members["transitions"], field.enum_values)
