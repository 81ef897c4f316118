"""From a view to what is looked for in the scope index: never less than what the view shows."""

from __future__ import annotations

from typing import Any

from kora_daemon.materialization.scope_keys import MAX_SELECTORS, Selector, scope_key
from kora_daemon.model.view import View
from kora_daemon.server.selectors import author_selectors, page_selectors

SCOPED = {"todos": frozenset({"userId", "orgId"}), "notes": frozenset({"userId"})}


def where(collection: str, **fields: Any) -> Selector:
    return Selector(
        collection, tuple(key for f, v in fields.items() if (key := scope_key(collection, f, v)) is not None)
    )


def test_each_collection_of_the_scopes_is_looked_for() -> None:
    view = View({"todos": {"userId": "u", "orgId": 1}, "notes": {"userId": "u"}, "forms": {}})
    wanted = [where("todos", userId="u", orgId=1), where("notes", userId="u"), where("forms")]
    assert page_selectors(view, SCOPED) == wanted
    assert author_selectors(view, SCOPED) == wanted


def test_without_scopes_the_index_is_of_no_help() -> None:
    assert page_selectors(View(), SCOPED) is None
    assert page_selectors(View(None, (("todos", {"userId": "u"}),)), SCOPED) is None


def test_nothing_is_looked_for_where_nothing_is_shown() -> None:
    assert page_selectors(View({}), SCOPED) == []
    assert page_selectors(View({"todos": {"userId": "u"}}, (("todos", {"userId": "v"}),)), SCOPED) == []


def test_all_alternatives_of_live_queries_are_looked_for() -> None:
    scopes = {"todos": {"userId": "u"}}
    view = View(scopes, (("todos", {"orgId": 1}), ("todos", {"orgId": 2}), ("todos", {"title": "t"})))
    assert page_selectors(view, SCOPED) == [
        where("todos", orgId=1, userId="u"),
        where("todos", orgId=2, userId="u"),
        where("todos", userId="u"),
    ]
    assert author_selectors(view, SCOPED) == [where("todos", userId="u")]


def test_fields_that_are_not_indexed_widen_what_is_looked_for() -> None:
    assert page_selectors(View({"todos": {"userId": "u", "title": "t"}}), SCOPED) == [where("todos", userId="u")]
    assert page_selectors(View({"todos": {"title": "t"}}), SCOPED) == [where("todos")]
    assert page_selectors(View({"unlisted": {"userId": "u"}}), SCOPED) == [where("unlisted")]
    assert author_selectors(View({"todos": {"title": "t"}}), SCOPED) is None


def test_so_do_values_that_equal_nothing() -> None:
    assert page_selectors(View({"todos": {"userId": ["u"], "orgId": 1}}), SCOPED) == [where("todos", orgId=1)]


def test_a_whole_collection_makes_its_other_selectors_needless() -> None:
    view = View({"todos": {}, "notes": {"userId": "u"}}, (("todos", {"orgId": 1}), ("todos", {"title": "t"})))
    assert page_selectors(view, SCOPED) == [where("todos"), where("notes", userId="u")]


def test_too_many_selectors_are_as_many_as_none() -> None:
    queries = tuple(("todos", {"orgId": number}) for number in range(MAX_SELECTORS + 1))
    assert page_selectors(View({"todos": {"userId": "u"}}, queries), SCOPED) is None
    assert page_selectors(View({"todos": {"userId": "u"}}, queries[1:]), SCOPED) is not None
    many = View({f"c{number}": {} for number in range(MAX_SELECTORS + 1)})
    assert author_selectors(many, SCOPED) is None
