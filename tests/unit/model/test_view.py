"""What a session asked to see: its own scope, and its query subsets."""

from __future__ import annotations

from kora_daemon.model.view import View, contradicts


def test_without_conditions_everything_is_visible() -> None:
    view = View()
    assert view.unrestricted
    assert view.conditions("todos") == ()
    assert view.admits("todos", {"userId": "anybody"})


def test_a_scope_hides_the_collections_it_does_not_name() -> None:
    view = View({"todos": {"userId": "u1"}, "notes": {}})
    assert view.conditions("todos") == ({"userId": "u1"},)
    assert view.conditions("notes") == ()
    assert view.conditions("secrets") is None
    assert view.admits("todos", {"userId": "u1"})
    assert not view.admits("todos", {"userId": "u2"})
    assert not view.admits("secrets", {})


def test_subsets_are_alternatives_and_leave_other_collections_alone() -> None:
    view = View(None, (("todos", {"done": True}), ("todos", {"userId": "u1"})))
    assert view.conditions("todos") == ({"done": True}, {"userId": "u1"})
    assert view.conditions("notes") == ()


def test_subsets_come_on_top_of_a_scope() -> None:
    view = View({"todos": {"userId": "u1"}}, (("todos", {"done": True}), ("todos", {"userId": "u2"})))
    assert view.conditions("todos") == ({"done": True, "userId": "u1"},)


def test_subsets_that_all_lie_outside_the_scope_show_nothing() -> None:
    assert View({"todos": {"userId": "u1"}}, (("todos", {"userId": "u2"}),)).conditions("todos") is None


def test_values_are_compared_as_javascript_does() -> None:
    assert contradicts({"done": True}, {"done": 1})
    assert contradicts({"tags": []}, {"tags": []})
    assert contradicts({"owner": "a"}, {"owner": None})
    assert not contradicts({"count": 1}, {"count": 1.0})
    assert not contradicts({"owner": "a"}, {}), "a field that is not there contradicts nothing"


def test_equal_views_have_equal_keys_whatever_the_order_of_words() -> None:
    one = View({"a": {"x": 1, "y": 2}}, (("a", {"p": 1, "q": 2}), ("b", {})))
    same = View({"a": {"y": 2, "x": 1}}, (("b", {}), ("a", {"q": 2, "p": 1})))
    assert one.key == same.key
    assert View({"a": {"x": True}}).key != View({"a": {"x": 1}}).key
