"""Making rows again: from the log, or from the states that are kept beside them (store.md section 7).

Goes through a collection in the order of its record ids, a few at a time, each part a write of its own that is exact
for the ids it covers. So it can be interrupted at any moment and goes on where it was, and others may write meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.materialization.fold import RecordState, fold_sorted
from kora_daemon.materialization.shape import Refill
from kora_daemon.materialization.stamp import needs_new_stamps, stamp_of_any
from kora_daemon.model.operation import Operation
from kora_daemon.model.record import RecordKey
from kora_daemon.store.contract import Store, WriteTransaction

MAX_RECORDS = 250
MAX_CAUGHT_UP = 5_000
"""Changed records; when there are more at a start, everything is made again, a little at a time."""
SAVED_AT_ONCE = 1_000
MAX_OPERATIONS = 500
"""In one write: some 10 ms, for which a server beside it has to wait."""


class Progress(Struct, frozen=True):
    """How far a refill got with one write: what was done in it; `after` is the last id, None at the end."""

    collection: str
    records: int
    operations: int
    after: str | None


def catch_up(tx: WriteTransaction) -> None:
    """See to the records that another server has changed, which knows nothing of states: all of them, at once."""
    stale = tx.stale_records()
    for first in range(0, len(stale), SAVED_AT_ONCE):
        states = {key: fold_sorted(tx.history(key)) for key in stale[first : first + SAVED_AT_ONCE]}
        tx.save(states)
        for key, state in states.items():
            shape = tx.shapes[key.collection]
            tx.restamp(key, stamp_of_any(shape, state, shape.scoped), only_missing=not shape.scoped)


def refill(store: Store) -> Iterator[Progress]:
    """Make all rows that are still to be made, a write at each step."""
    with store.transaction() as tx:
        stale = tx.stale_records()
        if len(stale) > MAX_CAUGHT_UP:
            for name in {key.collection for key in stale}:
                tx.set_refill(name, Refill("log"))
            tx.save({})
        else:
            catch_up(tx)
    while True:
        with store.transaction() as tx:
            pending = tx.refills()
            if not pending:
                return
            name, todo = next(iter(sorted(pending.items())))
            progress = refill_some(tx, name, todo)
            tx.set_refill(name, None if progress.after is None else replace(todo, after=progress.after))
        yield progress


def refill_some(tx: WriteTransaction, collection: str, todo: Refill) -> Progress:
    """Make the rows of the next records of a collection. The caller remembers how far it got."""
    shape = tx.shapes[collection]
    keys = [RecordKey(collection, one) for one in tx.record_ids(collection, todo.after, MAX_RECORDS, todo.source)]
    last = len(keys) < MAX_RECORDS
    states: dict[RecordKey, RecordState] = {}
    counted = _Counted()
    if todo.source == "states":
        states = tx.states(keys)
    else:
        for key in keys:
            states[key] = fold_sorted(counted.through(tx.history(key)))
            if counted.operations >= MAX_OPERATIONS and key is not keys[-1]:
                last = False
                break
    done = keys[: len(states)] if todo.source == "log" else keys
    after = None if last else done[-1].record_id
    tx.replace_records(collection, todo.after, after, states)
    for key, state in states.items():
        # The scope index is made with the stamps.
        stale = needs_new_stamps(state, todo.added) or not shape.scoped_before(todo.added)
        if todo.source == "log" or stale:
            only_missing = not stale
            tx.restamp(key, stamp_of_any(shape, state, shape.scoped), only_missing=only_missing)
    return Progress(collection, len(done), counted.operations, after)


class _Counted:
    operations = 0

    def through(self, history: Iterator[Operation]) -> Iterator[Operation]:
        for operation in history:
            self.operations += 1
            yield operation
