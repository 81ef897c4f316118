"""Who shares presence: those who see the same, or whose grants name the same group (scopes.md section 9)."""

from __future__ import annotations

import pytest

from kora_daemon.model.audience import UNRESTRICTED, audience
from kora_daemon.model.scope import READ_ONLY, ScopeMap

ALI: ScopeMap = {"notes": {"ownerId": "ali"}}


def test_without_restriction_there_is_one_audience_and_no_scope_leads_there() -> None:
    assert audience(None, None) == audience(None, None, ["orgId"]) == UNRESTRICTED
    assert UNRESTRICTED not in (audience({}, {}), audience(ALI, ALI), audience(ALI, ALI, ["orgId"]))


@pytest.mark.parametrize(
    "same",
    [
        {"notes": {"ownerId": "ali", READ_ONLY: True}},
        {"notes": {"ownerId": "ali", READ_ONLY: False}},
    ],
)
def test_who_sees_the_same_is_one_audience(same: ScopeMap) -> None:
    assert audience(ALI, ALI) == audience(same, same)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"notes": {}},
        {"notes": {"ownerId": "ALI"}},
        {"notes": {"ownerId": "ali"}, "todos": {}},
        {"notes": {"ownerId": "ali", "public": True}},
        {"todos": {"ownerId": "ali"}},
    ],
)
def test_who_sees_something_else_is_another(other: ScopeMap) -> None:
    assert audience(ALI, ALI) != audience(other, other)


def test_values_are_the_same_as_they_are_for_scopes() -> None:
    def of(value: object) -> str:
        scopes = {"notes": {"n": value}}
        return audience(scopes, scopes)

    assert of(1) == of(1.0)
    assert len({of(value) for value in (1, True, "1", None, 0, False, "")}) == 7


def test_collections_and_fields_have_no_order() -> None:
    one = {"a": {"x": 1, "y": 2}, "b": {}}
    other = {"b": {}, "a": {"y": 2, "x": 1}}
    assert audience(one, one) == audience(other, other)


def test_nothing_of_a_scope_is_in_the_name() -> None:
    name = audience(ALI, ALI)
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")


class TestGroups:
    """`group_by` names fields that a grant has to have one value for."""

    def test_the_field_may_stand_in_any_collection(self) -> None:
        one = {"notes": {"orgId": "acme", "ownerId": "ali"}, "todos": {}}
        other = {"todos": {"orgId": "acme"}}
        assert audience(one, one, ["orgId"]) == audience(other, other, ["orgId"])
        assert audience(one, one) != audience(other, other)

    def test_all_fields_have_to_be_there_and_the_same(self) -> None:
        one = {"notes": {"orgId": "acme", "team": 1}}
        other = {"notes": {"orgId": "acme"}, "todos": {"team": 1.0}}
        third = {"notes": {"orgId": "acme", "team": 2}}
        lacks = {"notes": {"orgId": "acme"}}
        names = {audience(scopes, scopes, ["orgId", "team"]) for scopes in (one, other, third, lacks)}
        assert len(names) == 3
        assert audience(lacks, lacks, ["orgId", "team"]) == audience(lacks, lacks)

    @pytest.mark.parametrize(
        "scopes", [{}, {"notes": {"team": 1}}, {"notes": {"orgId": "acme"}, "todos": {"orgId": "evil"}}]
    )
    def test_without_the_field_or_with_two_values_equal_scopes_decide(self, scopes: ScopeMap) -> None:
        assert audience(scopes, scopes, ["orgId"]) == audience(scopes, scopes)

    def test_no_group_is_named_like_a_scope(self) -> None:
        scopes = {"group": {"orgId": "acme"}}
        assert audience(scopes, scopes, ["orgId"]) != audience({"x": {}}, scopes)

    def test_what_a_client_asks_for_is_no_evidence(self) -> None:
        asked = {"notes": {"orgId": "acme"}}
        members = audience(asked, asked, ["orgId"])
        assert audience({"notes": {}}, asked, ["orgId"]) != members
        assert audience({"notes": {"orgId": "acme"}, "todos": {}}, {}, ["orgId"]) == members

    def test_who_was_granted_everything_may_choose(self) -> None:
        asked = {"notes": {"orgId": "acme"}}
        assert audience(None, asked, ["orgId"]) == audience(asked, asked, ["orgId"])
