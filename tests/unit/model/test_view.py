"""What part of the log a session is sent: by its scopes, and by its query subsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kora_daemon.model.view import View

Fields = Mapping[str, Any]


def shows(view: View, collection: str, carried: Fields, record: Fields | None = None) -> bool:
    rule = view.rule(collection)
    return rule is not None and rule.shows(carried, record)


def test_without_conditions_everything_is_visible() -> None:
    view = View()
    assert view.unrestricted
    assert shows(view, "todos", {"userId": "anybody"})


def test_a_scope_hides_the_collections_it_does_not_name() -> None:
    view = View({"todos": {"userId": "u1"}, "notes": {}})
    assert shows(view, "todos", {"userId": "u1"})
    assert not shows(view, "todos", {"userId": "u2"})
    assert not shows(view, "todos", {})
    assert shows(view, "notes", {})
    assert not shows(view, "secrets", {"userId": "u1"})


def test_an_empty_scope_hides_everything() -> None:
    assert not View({}).unrestricted
    assert not shows(View({}), "todos", {})


def test_what_an_operation_carries_lies_over_what_its_record_is() -> None:
    view = View({"todos": {"userId": "u1", "orgId": 1}})
    assert shows(view, "todos", {"userId": "u1"}, {"userId": "u2", "orgId": 1})
    assert not shows(view, "todos", {"userId": "u2"}, {"userId": "u1", "orgId": 1})
    assert not shows(view, "todos", {"userId": "u1"}, {"userId": "u1"})


def test_by_record_only_what_the_record_is_counts_for_the_scope() -> None:
    view = View({"todos": {"userId": "u1"}}, (("todos", {"done": False}),), by_record=True)
    assert shows(view, "todos", {"userId": "u2", "done": False}, {"userId": "u1", "done": True})
    assert not shows(view, "todos", {"userId": "u1", "done": False}, {"userId": "u2", "done": False})
    assert not shows(view, "todos", {"userId": "u1", "done": False}, {"done": False})
    assert shows(view, "todos", {"userId": "u1", "done": False}), "without a record there is nothing else to go by"
    assert view.key != View({"todos": {"userId": "u1"}}, (("todos", {"done": False}),)).key


def test_the_mark_of_a_read_only_collection_is_no_field() -> None:
    view = View({"todos": {"userId": "u1", "__readonly": True}})
    assert shows(view, "todos", {"userId": "u1"})
    assert view.key == View({"todos": {"userId": "u1"}}).key


def test_subsets_are_alternatives_and_leave_other_collections_alone() -> None:
    view = View(None, (("todos", {"done": True}), ("todos", {"userId": "u1"})))
    assert shows(view, "todos", {"done": True})
    assert shows(view, "todos", {"userId": "u1"})
    assert not shows(view, "todos", {"done": False, "userId": "u2"})
    assert shows(view, "notes", {})


def test_subsets_come_on_top_of_a_scope() -> None:
    view = View({"todos": {"userId": "u1"}}, (("todos", {"done": True}), ("todos", {"userId": "u2"})))
    rule = view.rule("todos")
    assert rule is not None
    assert rule.alternatives == ({"done": True, "userId": "u1"},)
    assert rule.fields == {"done", "userId"}


def test_a_subset_of_everything_takes_nothing_away() -> None:
    rule = View(None, (("todos", {"done": True}), ("todos", {}))).rule("todos")
    assert rule is not None
    assert rule.shows({}, None)


def test_subsets_that_all_lie_outside_the_scope_show_nothing() -> None:
    assert View({"todos": {"userId": "u1"}}, (("todos", {"userId": "u2"}),)).rule("todos") is None


def test_equal_views_have_equal_keys_whatever_the_order_of_words() -> None:
    one = View({"a": {"x": 1, "y": 2}}, (("a", {"p": 1, "q": 2}), ("b", {})))
    same = View({"a": {"y": 2, "x": 1}}, (("b", {}), ("a", {"q": 2, "p": 1})))
    assert one.key == same.key
    assert View({"a": {"x": True}}).key != View({"a": {"x": 1}}).key


def test_names_that_a_log_makes_up_fill_no_memory() -> None:
    view = View({"todos": {}})
    for number in range(5_000):
        view.rule(f"c{number}")
    assert len(view._rules) <= 1_001


def test_what_a_client_checks_itself_it_must_find_in_the_operation() -> None:
    def alone(view: View, carried: Fields, collection: str = "todos") -> bool:
        rule = view.rule(collection)
        assert rule is not None
        return rule.stands_alone(carried)

    scopes = {"todos": {"userId": "u1"}, "notes": {}}
    assert alone(View(scopes), {"userId": "u1", "done": True})
    assert not alone(View(scopes), {"done": True})
    assert not alone(View(scopes), {})
    assert alone(View(scopes), {}, "notes")

    subsets = (("todos", {"done": True}), ("notes", {}))
    assert not alone(View(None, subsets), {"userId": "u1"})
    assert not alone(View(scopes, subsets), {"done": True})
    assert not alone(View(None, subsets), {}, "notes"), "a client drops what carries nothing, whatever the subset"
    assert alone(View(None, subsets), {"text": "t"}, "notes")

    told_less = View(scopes, subsets, by_record=True)
    assert alone(told_less, {"done": True}), "it knows nothing of the scope"
    assert not alone(told_less, {"userId": "u1"})
    assert alone(View(scopes, by_record=True), {})
