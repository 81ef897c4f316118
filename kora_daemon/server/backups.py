"""The log of a running server as a file (store.md section 9): out as a stream, and in once all of it is verified.

One at a time: each reads the whole log, or changes it. Threads do the work, a piece at a time as it is asked for, so
nothing waits in memory for a slow peer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Final, cast

import structlog
import trio

from kora_daemon.apply.refill import refill
from kora_daemon.apply.restore import merge_log, replace_log
from kora_daemon.backup import Backup, export_backup, verify_backup
from kora_daemon.errors import KoraError
from kora_daemon.model.operation import Operation
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.journal import Journal
from kora_daemon.server.threads import ThreadPool
from kora_daemon.server.writer import Writer
from kora_daemon.store.contract import LogSnapshot, Store

CHECKED_EVERY: Final = 500
"""Operations read between two looks whether anybody still wants them."""

log = structlog.get_logger("kora.backup")


class BackupBusy(KoraError):
    """Another backup is made or put back."""


class Backups:
    """Makes backups and puts them back, one at a time.

    `changed` is told how many operations the log has, whenever it has changed in here.
    """

    def __init__(self, store: Store, writer: Writer, changed: Callable[[int], None], journal: Journal) -> None:
        self._store = store
        self._writer = writer
        self._changed = changed
        self._journal = journal
        self._under_way: str | None = None
        self._thread = ThreadPool("kora-backup", 1)

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Be the only one for as long as the block goes on. Raises BackupBusy."""
        if self._under_way is not None:
            raise BackupBusy(f"{self._under_way} is under way; one at a time")
        self._under_way = what
        try:
            yield
        finally:
            self._under_way = None

    async def export(self) -> Export:
        """A backup as it is at this moment, to be read and closed. Raises BackupBusy, BackupError and StoreError.

        What is wrong with the log is known before the first piece, which takes as long as reading the log twice.
        """
        with ExitStack() as stack:
            stack.enter_context(self.alone("an export"))
            export = Export(self._store, self._thread, self._journal)
            try:
                await export.open()
            except BaseException:
                await export.aclose()
                raise
            export.and_then(stack.pop_all())
        return export

    async def restore(self, file: BinaryIO, *, merge: bool) -> int:
        """Verify a backup, then put it in place of the log, or add what is missing; how many operations it brought.

        To be called inside `alone`. With a log in place of theirs all devices come again. Rows are made again
        afterwards. Raises BackupError, with nothing changed, and StoreError: a merge may then have been done in part,
        and can be done again.
        """
        backup = await self._thread.run(lambda: verify_backup(cast(BinaryIO, _WatchedFile(file))))
        self._journal.record("backup.verified", operations=backup.operation_count, merge=merge)
        try:
            brought = await (self._merge(backup) if merge else self._replace(backup))
        finally:
            with trio.CancelScope(shield=True):
                self._changed(await self._writer.perform(self._store.count_operations))
        log.info("backup.restored", operations=brought, merge=merge)
        self._journal.record("backup.restored", operations=brought, merge=merge)
        return brought

    async def _merge(self, backup: Backup) -> int:
        steps, brought = merge_log(self._store, backup, wall_ms()), 0
        while (added := await self._writer.perform(lambda: next(steps, None))) is not None:
            brought += added
        return brought

    async def _replace(self, backup: Backup) -> int:
        brought = await self._writer.perform(lambda: replace_log(self._store, backup, wall_ms()))
        self._changed(brought)
        steps = refill(self._store)
        while (progress := await self._writer.perform(lambda: next(steps, None))) is not None:
            if progress.after is None:
                self._journal.record("backup.records_made", collection=progress.collection)
        return brought


class Export:
    """The bytes of a backup, piece by piece. Closing it lets go of the log's state at the moment it was opened."""

    def __init__(self, store: Store, thread: ThreadPool, journal: Journal) -> None:
        self._store = store
        self._thread = thread
        self._journal = journal
        self._held = ExitStack()
        self._afterwards = ExitStack()
        self._pieces: Iterator[bytes] = iter(())
        self._first: bytes | None = None
        self._size_bytes = 0

    def and_then(self, afterwards: ExitStack) -> None:
        """What is to be closed with it."""
        self._afterwards = afterwards

    async def open(self) -> None:
        """Begin: raises what is wrong with the log."""
        self._first = await self._thread.run(self._begin)

    def _begin(self) -> bytes | None:
        snapshot = self._held.enter_context(self._store.snapshot())
        self._pieces = export_backup(_WatchedLog(snapshot), self._store.node_id, wall_ms())
        if isinstance(self._pieces, Generator):
            self._held.callback(self._pieces.close)
        return self._next()

    def _next(self) -> bytes | None:
        trio.from_thread.check_cancelled()
        return next(self._pieces, None)

    def __aiter__(self) -> Export:
        """Itself."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece of 128 KiB or so."""
        try:
            piece, self._first = self._first or await self._thread.run(self._next), None
        except KoraError as error:
            log.error("backup.export_failed", error=str(error))
            self._journal.record("backup.export_failed", reason=str(error))
            raise trio.BrokenResourceError("the backup can't be finished") from error  # and must not seem to be
        if piece is None:
            log.info("backup.exported", size_bytes=self._size_bytes)
            self._journal.record("backup.exported", bytes=self._size_bytes)
            raise StopAsyncIteration
        self._size_bytes += len(piece)
        return piece

    async def aclose(self) -> None:
        """Let go. Idempotent."""
        with trio.CancelScope(shield=True):
            await self._thread.run(self._held.close)
        self._afterwards.close()


class _WatchedLog:
    """A log whose reading ends when nobody wants it any more: the first piece may take minutes."""

    def __init__(self, snapshot: LogSnapshot) -> None:
        self._snapshot = snapshot

    def version_vector(self) -> dict[str, int]:
        """Node id -> largest sequence number seen."""
        return self._snapshot.version_vector()

    def operations(self) -> Iterator[Operation]:
        """All operations in delivery order."""
        for number, operation in enumerate(self._snapshot.operations()):
            if number % CHECKED_EVERY == 0:
                trio.from_thread.check_cancelled()
            yield operation


class _WatchedFile:
    """A file whose reading ends when nobody wants it any more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to another place."""
        return self._file.seek(offset, whence)

    def read(self, size_bytes: int) -> bytes:
        """The next bytes."""
        trio.from_thread.check_cancelled()
        return self._file.read(size_bytes)
