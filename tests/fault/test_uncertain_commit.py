"""A commit that happened although the store reported a failure, as after an I/O error behind the last write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kora_daemon.errors import StoreUnavailable
from kora_daemon.store.contract import WriteTransaction
from kora_daemon.store.memory import MemoryStore
from tests.support.network import connected, running_server, streaming
from tests.support.operations import wire_operation


class LyingStore(MemoryStore):
    """Says once that a commit failed which did not."""

    def __init__(self) -> None:
        super().__init__()
        self.lies_left = 1

    @contextmanager
    def transaction(self) -> Iterator[WriteTransaction]:
        """As the real one, but for the lie."""
        with super().transaction() as tx:
            yield tx
        if self.lies_left:
            self.lies_left -= 1
            raise StoreUnavailable("the disk did not answer in time")


async def test_devices_that_are_online_get_it_with_the_next_commit() -> None:
    first, second = wire_operation(1, nodeId="writer"), wire_operation(2, nodeId="writer")
    async with running_server(LyingStore()) as host, streaming(host.url, "listener") as listener:
        async with streaming(host.url, "writer") as writer:
            await writer.upload(first)
            assert (await writer.closed()).code == 1011
        async with connected(host.url) as writer:
            await writer.shake_hands("writer")
            for operation in (first, second):
                message_id = await writer.upload(operation)
                while (await writer.hear()).get("acknowledgedMessageId") != message_id:
                    pass
        heard: list[str] = []
        while len(heard) < 2:
            batch = await listener.hear()
            await listener.acknowledge(batch)
            heard += [operation["id"] for operation in batch["operations"]]
    assert heard == [first["id"], second["id"]]
