"""What deletes bring about (store.md section 6.3): on one level as the reference does it, and deeper when asked to."""

from __future__ import annotations

import pytest

from kora_daemon.apply.pipeline import ApplyRules, Pipeline
from kora_daemon.materialization.fold import fold
from kora_daemon.model.identity import operation_id
from kora_daemon.model.operation import Operation, OperationType
from tests.support.judging import (
    SERVER,
    MakeJudge,
    constraint,
    places,
    relation,
    told,
    value_of,
    with_constraints,
    with_relations,
)
from tests.support.log import RECEIVED_AT_MS, log_ids
from tests.support.records import Node, key, live, schema_of

FUTURE_MS = RECEIVED_AT_MS + 50_000
"""What a device may stamp while its clock is fast."""

BASE = schema_of(
    shelves={"room": "string"},
    books={"shelf": "string", "other": "string", "series": "string"},
    notes={"book": "string", "shelf": "string"},
    marks={"note": "string"},
    locks={"book": "string", "shelf": "string"},
)
CHAIN = with_relations(
    BASE,
    relation("bookOnShelf", "books.shelf", "shelves"),
    relation("noteOnBook", "notes.book", "books"),
    relation("markOnNote", "marks.note", "notes"),
)
TREE = with_relations(BASE, relation("part", "books.series", "books"))


def shelf(node: Node, record_id: str) -> Operation:
    return node.insert(record_id, {}, collection="shelves")


def book(node: Node, record_id: str, **fields: str) -> Operation:
    return node.insert(record_id, fields, collection="books")


def note(node: Node, record_id: str, **fields: str) -> Operation:
    return node.insert(record_id, fields, collection="notes")


def mark(node: Node, record_id: str, on: str) -> Operation:
    return node.insert(record_id, {"note": on}, collection="marks")


def lock(node: Node, record_id: str, **fields: str) -> Operation:
    return node.insert(record_id, fields, collection="locks")


def chain(node: Node) -> list[Operation]:
    """A shelf s with books b1 and b2, each with a note, each with a mark; the same on a shelf z, to be left alone."""
    made = []
    for name, books in (("s", ("b2", "b1")), ("z", ("b3",))):
        made.append(shelf(node, name))
        for one in books:
            number = one[1:]
            made += [
                book(node, one, shelf=name),
                note(node, f"n{number}", book=one),
                mark(node, f"m{number}", f"n{number}"),
            ]
    return made


# -- levels -----------------------------------------------------------------------------------------------------------

BOOKS = ["delete books/b1", "delete books/b2"]
NOTES = ["delete notes/n1", "delete notes/n2"]
MARKS = ["delete marks/m1", "delete marks/m2"]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(1, BOOKS), (2, BOOKS + NOTES), (3, BOOKS + NOTES + MARKS), (100, BOOKS + NOTES + MARKS)],
)
def test_deletes_go_down_as_many_levels_as_they_are_told(
    judge: MakeJudge, node: Node, levels: int, expected: list[str]
) -> None:
    judged = judge(CHAIN, levels)
    judged.takes(*chain(node))
    effects = judged.effects(node.delete("s", collection="shelves"))
    assert places(effects) == expected
    gone = {name for name in ("books", "notes", "marks") if any(f" {name}/" in one for one in expected)}
    for name in ("books", "notes", "marks"):
        left = {f"{name[0]}3"} if name in gone else {f"{name[0]}{number}" for number in (1, 2, 3)}
        assert judged.live(name).keys() == left
    assert judged.live("shelves").keys() == {"z"}


def test_each_effect_names_the_delete_that_it_follows_from(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN, 3)
    judged.takes(*chain(node))
    deleted = node.delete("s", collection="shelves")
    effects = judged.effects(deleted)
    by_place = {f"delete {one.collection}/{one.record_id}": one.id for one in effects}
    assert [one.causal_deps for one in effects] == [
        [deleted.id],
        [deleted.id],
        [by_place["delete books/b1"]],
        [by_place["delete books/b2"]],
        [by_place["delete notes/n1"]],
        [by_place["delete notes/n2"]],
    ]


def test_effects_are_whole_operations_of_the_server(judge: MakeJudge, node: Node) -> None:
    schema = with_relations(
        BASE,
        relation("bookOnShelf", "books.shelf", "shelves"),
        relation("noteOnBook", "notes.book", "books", "set-null"),
    )
    judged = judge(schema, 2)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"), note(node, "n", book="b"))
    deleted = node.delete("s", collection="shelves")
    deleted.schema_version = 7
    delete, update = judged.effects(deleted)
    assert (delete.type, value_of(delete.data), value_of(delete.previous_data)) == ("delete", None, None)
    assert (update.type, value_of(update.data), value_of(update.previous_data)) == (
        "update",
        {"book": None},
        {"book": "b"},
    )
    for number, effect in enumerate((delete, update), 1):
        assert effect.id == operation_id(effect)
        assert (effect.node_id, effect.timestamp.node_id) == (SERVER, SERVER)
        assert (effect.sequence_number, effect.schema_version) == (number, 7)
        assert value_of(effect.atomic_ops) is None
    assert judged.live("notes") == {"n": {}}


def test_an_emptied_reference_is_the_end_of_the_way_down(judge: MakeJudge, node: Node) -> None:
    schema = with_relations(
        BASE,
        relation("bookOnShelf", "books.shelf", "shelves", "set-null"),
        relation("noteOnBook", "notes.book", "books"),
    )
    judged = judge(schema, 3)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s", series="x"), note(node, "n", book="b"))
    assert [told(one) for one in judged.effects(node.delete("s", collection="shelves"))] == [
        ("update books/b", {"shelf": None})
    ]
    assert judged.live("books") == {"b": {"series": "x"}}
    assert judged.live("notes").keys() == {"n"}


def test_relations_go_by_name_and_records_by_id_level_after_level(judge: MakeJudge, node: Node) -> None:
    schema = with_relations(
        BASE,
        relation("z", "books.shelf", "shelves"),
        relation("a", "notes.shelf", "shelves", "set-null"),
        relation("m", "locks.shelf", "shelves", "no-action"),
        relation("b", "notes.book", "books"),
        relation("c", "marks.note", "notes"),
    )
    judged = judge(schema, 3)
    judged.takes(
        shelf(node, "s"),
        lock(node, "l", shelf="s"),
        *(book(node, one, shelf="s") for one in ("b10", "b9", "B")),
        *(note(node, one, shelf="s") for one in ("n2", "n1")),
        *(note(node, one, book="b9") for one in ("p2", "p1")),
        note(node, "o", book="B"),
        mark(node, "m", "o"),
    )
    assert places(judged.effects(node.delete("s", collection="shelves"))) == [
        "update notes/n1",
        "update notes/n2",
        "delete books/B",
        "delete books/b10",
        "delete books/b9",
        "delete notes/o",
        "delete notes/p1",
        "delete notes/p2",
        "delete marks/m",
    ]
    assert judged.live("locks") == {"l": {"shelf": "s"}}


# -- rings and repetitions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 3, 4, 100])
def test_a_ring_comes_to_an_end(judge: MakeJudge, node: Node, levels: int) -> None:
    judged = judge(TREE, levels)
    judged.takes(book(node, "a", series="c"), book(node, "b", series="a"), book(node, "c", series="b"))
    assert places(judged.effects(node.delete("a", collection="books"))) == ["delete books/b", "delete books/c"]
    assert judged.live("books") == {}


@pytest.mark.parametrize("levels", [1, 2, 100])
def test_a_record_that_points_at_itself_is_gone_for_good(judge: MakeJudge, node: Node, levels: int) -> None:
    """As in the reference it gets a delete of the server besides its own."""
    judged = judge(TREE, levels)
    judged.takes(book(node, "a", series="a"), book(node, "b", series="a"))
    assert places(judged.effects(node.delete("a", collection="books"))) == ["delete books/a", "delete books/b"]
    assert judged.live("books") == {}


@pytest.mark.parametrize("levels", [1, 3])
def test_a_record_that_points_twice_gets_an_operation_for_each(judge: MakeJudge, node: Node, levels: int) -> None:
    schema = with_relations(
        BASE,
        relation("a", "books.shelf", "shelves"),
        relation("b", "books.other", "shelves"),
        relation("c", "notes.book", "books"),
        relation("d", "locks.book", "books", "set-null"),
    )
    judged = judge(schema, levels)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s", other="s"), note(node, "n", book="b"))
    judged.takes(lock(node, "l", book="b"))
    expected = ["delete books/b", "delete books/b", *(["delete notes/n", "update locks/l"] if levels > 1 else [])]
    first, second, *_ = effects = judged.effects(node.delete("s", collection="shelves"))
    assert places(effects) == expected
    assert first.timestamp.order_key < second.timestamp.order_key
    assert first.id != second.id


def test_a_record_reached_on_two_levels_goes_down_once(judge: MakeJudge, node: Node) -> None:
    schema = with_relations(
        BASE,
        relation("bookOnShelf", "books.shelf", "shelves"),
        relation("noteOnShelf", "notes.shelf", "shelves"),
        relation("noteOnBook", "notes.book", "books"),
        relation("markOnNote", "marks.note", "notes"),
    )
    judged = judge(schema, 3)
    judged.takes(
        shelf(node, "s"), book(node, "b", shelf="s"), note(node, "n", shelf="s", book="b"), mark(node, "m", "n")
    )
    assert places(judged.effects(node.delete("s", collection="shelves"))) == [
        "delete books/b",
        "delete notes/n",
        "delete marks/m",
    ]


def test_emptying_then_deleting_a_record_leaves_it_deleted(judge: MakeJudge, node: Node) -> None:
    schema = with_relations(
        BASE,
        relation("a", "books.shelf", "shelves", "set-null"),
        relation("b", "books.other", "shelves"),
    )
    judged = judge(schema)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s", other="s"))
    assert places(judged.effects(node.delete("s", collection="shelves"))) == ["update books/b", "delete books/b"]
    assert judged.live("books") == {}


def test_a_deleted_record_that_points_at_itself_is_not_brought_back(judge: MakeJudge, node: Node) -> None:
    judged = judge(with_relations(BASE, relation("part", "books.series", "books", "set-null")))
    judged.takes(book(node, "a", series="a"), book(node, "b", series="a"))
    judged.takes(node.delete("a", collection="books"))
    assert judged.live("books") == {"b": {}}


@pytest.mark.parametrize("levels", [1, 2])
def test_a_record_deleted_through_one_relation_is_not_brought_back_by_another(
    judge: MakeJudge, node: Node, levels: int
) -> None:
    schema = with_relations(
        BASE,
        relation("a", "books.shelf", "shelves"),
        relation("b", "books.other", "shelves", "set-null"),
    )
    judged = judge(schema, levels)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s", other="s"))
    judged.takes(node.delete("s", collection="shelves"))
    assert judged.live("books") == {}


def test_a_record_deleted_on_one_level_is_not_brought_back_on_the_next(judge: MakeJudge, node: Node) -> None:
    schema = with_relations(
        BASE,
        relation("bookOnShelf", "books.shelf", "shelves"),
        relation("noteOnShelf", "notes.shelf", "shelves"),
        relation("noteOnBook", "notes.book", "books", "set-null"),
    )
    judged = judge(schema, 2)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"), note(node, "n", shelf="s", book="b"))
    judged.takes(node.delete("s", collection="shelves"))
    assert judged.live("notes") == {}


# -- restrict ---------------------------------------------------------------------------------------------------------

GUARDED = with_relations(
    BASE,
    relation("bookOnShelf", "books.shelf", "shelves"),
    relation("noteOnShelf", "notes.shelf", "shelves", "set-null"),
    relation("lockOnBook", "locks.book", "books", "restrict"),
)


def guarded(node: Node) -> list[Operation]:
    return [shelf(node, "s"), book(node, "b", shelf="s"), note(node, "n", shelf="s"), lock(node, "l", book="b")]


def test_restrict_deep_down_refuses_everything_and_leaves_no_trace(judge: MakeJudge, node: Node) -> None:
    judged = judge(GUARDED, 2)
    judged.takes(*guarded(node))
    before = judged.everything()
    refused = judged.refuses(node.delete("s", collection="shelves"))
    assert refused.code == "REFERENTIAL_INTEGRITY"
    assert "locks" in refused.message
    assert "lockOnBook" in refused.message
    assert judged.everything() == before

    (entry,) = judged.batch(node.delete("l", collection="locks")).applied
    assert entry.sequence == 5
    effects = judged.effects(node.delete("s", collection="shelves"))
    assert [one.sequence_number for one in effects] == [1, 2]


def test_restrict_below_the_last_level_is_not_asked(judge: MakeJudge, node: Node) -> None:
    judged = judge(GUARDED, 1)
    judged.takes(*guarded(node))
    assert places(judged.effects(node.delete("s", collection="shelves"))) == ["delete books/b", "update notes/n"]
    assert judged.live("locks") == {"l": {"book": "b"}}


def test_the_others_of_a_batch_are_stored_when_a_delete_is_refused(judge: MakeJudge, node: Node) -> None:
    judged = judge(GUARDED, 2)
    judged.takes(*guarded(node))
    outcome = judged.batch(shelf(node, "x"), node.delete("s", collection="shelves"), shelf(node, "y"))
    assert places([one.operation for one in outcome.applied]) == ["insert shelves/x", "insert shelves/y"]
    assert [one.code for one in outcome.rejections] == ["REFERENTIAL_INTEGRITY"]
    assert judged.live("shelves").keys() == {"s", "x", "y"}


def test_deleted_and_unrelated_records_restrict_nothing(judge: MakeJudge, node: Node) -> None:
    judged = judge(GUARDED, 2)
    judged.takes(*guarded(node), lock(node, "k", shelf="b"), lock(node, "j", book="B"))
    judged.takes(node.delete("l", collection="locks"))
    assert len(judged.effects(node.delete("s", collection="shelves"))) == 2


# -- what comes before in the same write ------------------------------------------------------------------------------


def test_references_are_those_after_the_earlier_operations_of_the_batch(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN, 2)
    judged.takes(shelf(node, "s"), shelf(node, "z"), book(node, "b1", shelf="s"), book(node, "b2", shelf="z"))
    applied = judged.takes(
        book(node, "b3", shelf="s"),
        note(node, "n3", book="b3"),
        node.update("b1", {"shelf": "z"}, collection="books"),
        node.update("b2", {"shelf": "s"}, collection="books"),
        node.delete("s", collection="shelves"),
        note(node, "n2", book="b2"),
    )
    assert places(applied)[4:] == [
        "delete shelves/s",
        "delete books/b2",
        "delete books/b3",
        "delete notes/n3",
        "insert notes/n2",
    ]
    assert judged.live("books") == {"b1": {"shelf": "z"}}


def test_a_restriction_may_come_and_go_within_a_batch(judge: MakeJudge, node: Node) -> None:
    judged = judge(GUARDED, 2)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"))
    first = node.delete("b", collection="books")
    outcome = judged.batch(
        lock(node, "l", book="b"),
        first,
        node.delete("s", collection="shelves"),
        node.delete("l", collection="locks"),
        node.delete("s", collection="shelves"),
    )
    assert len(outcome.rejections) == 2
    assert places([one.operation for one in outcome.applied]) == [
        "insert locks/l",
        "delete locks/l",
        "delete shelves/s",
        "delete books/b",
    ]


def test_batches_of_one_write_see_each_other_and_each_has_its_own_outcome(judge: MakeJudge) -> None:
    judged = judge(GUARDED, 2)
    a, b, c = Node("a"), Node("b"), Node("c")
    judged.takes(*guarded(a))
    b.count = c.count = a.count
    one, two, three, four = judged.batches(
        [b.delete("b", collection="books"), b.delete("l", collection="locks")],
        [c.delete("s", collection="shelves")],
        [],
        [book(c, "c", shelf="s"), c.delete("s", collection="shelves")],
    )
    assert [places([entry.operation for entry in each.applied]) for each in (one, two, three, four)] == [
        ["delete locks/l"],
        ["delete shelves/s", "delete books/b", "update notes/n"],
        [],
        ["insert books/c", "delete shelves/s", "delete books/c"],
    ]
    assert [len(each.rejections) for each in (one, two, three, four)] == [1, 0, 0, 0]
    sequences = [entry.sequence for each in (one, two, three, four) for entry in each.applied]
    assert sequences == [*range(5, 5 + len(sequences))]


def test_an_effect_is_seen_by_the_checks_that_follow(judge: MakeJudge, node: Node) -> None:
    schema = with_constraints(
        CHAIN, notes=[constraint("referential", "book", collection="books")], books=[constraint("unique", "series")]
    )
    judged = judge(schema)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s", series="x"))
    outcome = judged.batch(
        book(node, "c", series="x"),
        node.delete("s", collection="shelves"),
        note(node, "n", book="b"),
        book(node, "d", series="x"),
    )
    assert [(one.record_id, one.code) for one in outcome.rejections] == [
        ("c", "CONSTRAINT_VIOLATION"),
        ("n", "CONSTRAINT_VIOLATION"),
    ]
    assert judged.live("books") == {"d": {"series": "x"}}


# -- sequence numbers and clocks --------------------------------------------------------------------------------------


def test_sequence_numbers_go_on_within_a_write_after_it_and_after_a_restart(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN)
    for name in ("s", "t", "u", "v"):
        judged.takes(shelf(node, name), book(node, f"{name}1", shelf=name), book(node, f"{name}2", shelf=name))
    both = judged.takes(node.delete("s", collection="shelves"), node.delete("t", collection="shelves"))
    assert [one.sequence_number for one in both if one.node_id == SERVER] == [1, 2, 3, 4]
    assert [one.sequence_number for one in judged.effects(node.delete("u", collection="shelves"))] == [5, 6]
    assert judged.store.version_vector()[SERVER] == 6

    judged.pipeline = Pipeline(SERVER, ApplyRules(CHAIN))
    assert [one.sequence_number for one in judged.effects(node.delete("v", collection="shelves"))] == [7, 8]


def test_operations_that_come_back_in_the_servers_name_are_counted(judge: MakeJudge, node: Node) -> None:
    """Out of a backup, in the batch of whoever restores it."""
    judged = judge(CHAIN)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"), book(node, "c", shelf="s"))
    own = Node(SERVER)
    own.count = 40
    applied = judged.takes(own.update("c", {"series": "x"}, collection="books"), node.delete("s", collection="shelves"))
    assert [one.sequence_number for one in applied if one.node_id == SERVER] == [41, 42, 43]


def test_effects_are_counted_behind_a_delete_in_the_servers_own_name(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"))
    own = Node(SERVER)
    own.count = 40
    deleted, effect = judged.takes(own.delete("s", collection="shelves"))
    assert (deleted.sequence_number, effect.sequence_number) == (41, 42)


def test_effects_are_later_than_the_delete_and_than_all_that_their_records_have_seen(
    judge: MakeJudge, node: Node
) -> None:
    judged = judge(CHAIN, 2)
    judged.takes(
        shelf(node, "s"),
        book(node, "b", shelf="s"),
        node.update("b", {"series": "late"}, collection="books", at=FUTURE_MS + 7),
        note(node, "n", book="b"),
        node.update("n", {"shelf": "later"}, collection="notes", at=(FUTURE_MS + 8, 99_999, "zzz")),
    )
    deleted = node.delete("s", collection="shelves", at=FUTURE_MS)
    of_book, of_note = judged.effects(deleted)
    assert of_book.timestamp.order_key > (FUTURE_MS + 7, 0, "node-a") > deleted.timestamp.order_key
    assert of_note.timestamp.order_key > (FUTURE_MS + 8, 99_999, "zzz")
    assert judged.live("books") == judged.live("notes") == {}


def test_effects_are_later_than_a_delete_from_the_future(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"), book(node, "c", shelf="s"))
    first, second = judged.effects(node.delete("s", collection="shelves", at=(FUTURE_MS, 5, "zzz")))
    assert (FUTURE_MS, 5, "zzz") < first.timestamp.order_key < second.timestamp.order_key
    assert second.timestamp.wall_time == FUTURE_MS


def test_effects_have_the_servers_time_when_nothing_is_later(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"))
    judged.now_ms = RECEIVED_AT_MS + 3
    (effect,) = judged.effects(node.delete("s", collection="shelves"))
    assert (effect.timestamp.wall_time, effect.timestamp.logical) == (RECEIVED_AT_MS + 3, 0)


def test_an_effect_is_later_than_what_its_record_got_in_the_same_batch(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"))
    *_, effect = judged.takes(
        node.update("b", {"series": "x"}, collection="books", at=FUTURE_MS), node.delete("s", collection="shelves")
    )
    assert effect.timestamp.order_key > (FUTURE_MS, 0, "node-a")
    assert judged.live("books") == {}


# -- deletes that are none of the usual -------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 3])
def test_a_delete_that_is_known_brings_nothing_about_again(judge: MakeJudge, node: Node, levels: int) -> None:
    judged = judge(CHAIN, levels)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"))
    deleted = node.delete("s", collection="shelves")
    assert judged.effects(deleted)
    judged.takes(book(node, "c", shelf="s"))
    before = judged.everything()
    assert judged.batch(deleted, deleted).applied == []
    assert judged.everything() == before
    again, twice = node.delete("s", collection="shelves"), node.delete("s", collection="shelves")
    assert places(judged.takes(again, again, twice)) == ["delete shelves/s", "delete books/c", "delete shelves/s"]


def test_a_delete_that_loses_and_one_of_a_record_never_seen_still_cascade(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN, 2)
    judged.takes(shelf(node, "s"), book(node, "b", shelf="s"), note(node, "n", book="b"), book(node, "c", shelf="x"))
    judged.takes(node.update("s", {"room": "x"}, collection="shelves", at=FUTURE_MS))
    assert places(judged.effects(node.delete("s", collection="shelves"))) == ["delete books/b", "delete notes/n"]
    assert judged.live("shelves").keys() == {"s"}
    assert places(judged.effects(node.delete("x", collection="shelves"))) == ["delete books/c"]


@pytest.mark.parametrize("kind", ["insert", "update"])
def test_only_deletes_bring_something_about(judge: MakeJudge, node: Node, kind: OperationType) -> None:
    judged = judge(GUARDED, 2)
    judged.takes(*guarded(node))
    for data in (None, {}, {"room": None}):
        assert judged.effects(node.write(kind, "s", data, collection="shelves")) == []
    assert judged.live("books").keys() == {"b"}


def test_effects_are_in_the_log_behind_their_delete_and_in_the_states(judge: MakeJudge, node: Node) -> None:
    judged = judge(CHAIN, 3)
    judged.takes(*chain(node))
    deleted = node.delete("s", collection="shelves")
    effects = judged.effects(deleted)
    assert log_ids(judged.store)[-7:] == [deleted.id, *(one.id for one in effects)]
    with judged.store.transaction() as tx:
        keys = [key(one.record_id, one.collection) for one in effects]
        assert tx.states(keys) == {one: fold(tx.history(one)) for one in keys}
    assert live(judged.store, "marks")[0]["id"] == "m3"
