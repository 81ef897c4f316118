"""Writes by the server's own side while the store is in trouble: once or not at all, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.apply.trusted import Mutation
from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.record import RecordKey
from kora_daemon.model.schema import Collection, Field, Schema
from kora_daemon.server.sync_server import ServerOptions
from kora_daemon.store.contract import WriteTransaction
from kora_daemon.store.memory import MemoryStore
from tests.support.network import PATIENCE_S, running_server

SCHEMA = Schema(
    version=1, collections={"counters": Collection(name="counters", fields={"n": Field(name="n", kind="number")})}
)
INCREMENT = Mutation("update", "counters", "c", None, {"n": {"type": "increment", "value": 10}})


class TroubledStore(MemoryStore):
    """Says that commits failed which did not, or fails before them, as often as it is told."""

    lies = 0
    failures = 0

    @contextmanager
    def transaction(self, locks: Sequence[RecordKey] = ()) -> Iterator[WriteTransaction]:
        """As the real one, but for the trouble."""
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("there is no connection")
        with super().transaction(locks) as tx:
            yield tx
        if self.lies:
            self.lies -= 1
            raise StoreUnavailable("the answer to the commit was lost")


def options(patience: float) -> ServerOptions:
    return ServerOptions(apply=ApplyRules(SCHEMA), outage_patience=patience)


@pytest.mark.parametrize(("lies", "failures"), [(1, 0), (3, 0), (0, 2), (1, 1)])
async def test_a_commit_whose_answer_was_lost_is_not_done_again(lies: int, failures: int) -> None:
    store = TroubledStore()
    async with running_server(store, options=options(10)) as host:
        await host.server.apply(Mutation("insert", "counters", "c", {"n": 0}))
        store.lies, store.failures = lies, failures
        outcome = await host.server.apply(INCREMENT)
        assert (outcome.result, len(outcome.applied)) == ("applied", 1)
        assert await host.server.find_record("counters", "c") == {"id": "c", "n": 10} | times(store)
        assert store.count_operations() == 2


def times(store: TroubledStore) -> dict[str, int]:
    record = store.find_record("counters", "c")
    assert record is not None
    return {name: record[name] for name in ("_created_at", "_updated_at")}


async def test_a_write_that_waits_for_the_store_ends_with_the_server() -> None:
    store = TroubledStore()
    refused = trio.Event()
    async with running_server(store, options=options(600)) as host:
        store.failures = 10**9

        async def write() -> None:
            with pytest.raises(StoreUnavailable):
                await host.server.apply(INCREMENT)
            refused.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while host.server.store_failure is None:
                await trio.sleep(0.005)
            with trio.fail_after(PATIENCE_S):
                await host.server.stop()
                await refused.wait()
        store.failures = 0


async def test_a_write_to_a_server_that_is_gone_is_refused() -> None:
    async with running_server(TroubledStore(), options=options(0)) as host:
        writer = host.server._running.writer
        writer.finish()
        while not writer._ended:
            await trio.sleep(0.005)
        with trio.fail_after(PATIENCE_S), pytest.raises((StoreUnavailable, RuntimeError)):
            await host.server.apply(INCREMENT)
