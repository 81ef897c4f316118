"""What a server does to its store besides reading and writing: tables and rows at the start, tidying up later."""

from __future__ import annotations

from contextlib import suppress

import structlog
import trio

from kora_daemon.apply.refill import refill
from kora_daemon.errors import StoreError, StoreLocked
from kora_daemon.model.schema import Schema
from kora_daemon.server.beat import next_beat
from kora_daemon.server.outage import Outage
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.writer import Writer
from kora_daemon.store.contract import Store

CHECKPOINT_INTERVAL_S = 0.25
IDLE_INTERVAL_S = 0.5
"""Between two looks whether there is anything to tidy up, as long as there is not."""
LOCK_PATIENCE_S = 60.0
"""For another process to end what it writes."""

log = structlog.get_logger("kora.server")


async def open_store(store: Store, schema: Schema | None, thread: ThreadPool) -> None:
    """Open it, bring the tables to the schema, make the rows that are missing (store.md section 7). Raises StoreError.

    Waits a while for another process that writes to the database.
    """
    told = False

    async def attempt() -> None:
        nonlocal told
        try:
            await thread.run(store.open)
            await _prepare_records(store, schema, thread)
        except StoreLocked as error:
            if not told:
                log.warning("store.locked", waits_s=LOCK_PATIENCE_S, error=str(error))
            told = True
            raise

    await Outage(LOCK_PATIENCE_S, StoreLocked).outlast(attempt)


async def _prepare_records(store: Store, schema: Schema | None, thread: ThreadPool) -> None:
    if schema is None:
        return
    upgrade = await thread.run(lambda: store.upgrade(schema))
    for step in upgrade.steps:
        log.info("schema.upgraded", step=step.summary)
    steps = refill(store)
    while (progress := await thread.run(lambda: next(steps, None))) is not None:
        if progress.after is None:
            log.info("schema.records_made", collection=progress.collection)


async def keep_house(store: Store, writer: Writer) -> None:
    """Let the store tidy up behind its commits, for ever; in a thread of its own, or commits would wait for it."""
    thread = ThreadPool("kora-checkpoint", 1)
    tidied = writer.log_size.operations
    while True:
        while writer.log_size.operations == tidied:
            await trio.sleep_until(next_beat(IDLE_INTERVAL_S))
        tidied = writer.log_size.operations
        with suppress(StoreError):  # the writer meets the same trouble, and reports it
            await thread.run(store.checkpoint)
        await trio.sleep(CHECKPOINT_INTERVAL_S)
