"""Backups over HTTP (store.md section 9): the log streamed out, and a file streamed in, verified, then put in place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from kora_daemon.backup import BackupError, BackupTooLarge
from kora_daemon.http.access import Role
from kora_daemon.http.messages import HttpError, Request, Response, json_response
from kora_daemon.http.routes import Route
from kora_daemon.server.backups import BackupBusy
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.server.threads import ThreadPool

WRITTEN_AT_ONCE: Final = 1 << 20
SPARE_BYTES: Final = 64 << 20
"""Of the disk, which are left to the store."""
COME_AGAIN_S: Final = 30


class ImportOptions(Struct, frozen=True):
    """How large a backup may be, and where it waits until it is verified; None = where temporary files are."""

    max_bytes: int = 2**32
    folder: Path | None = None


def backup_routes(server: SyncServer, options: ImportOptions) -> list[Route]:
    """`/__kora/backup/export`, and `/__kora/backup/import`, with `merge=true` to add what is missing."""
    thread = ThreadPool("kora-import", 1)

    async def export(_request: Request) -> Response:
        try:
            pieces = await server.backups.export()
        except BackupBusy as error:
            raise _busy(error) from error
        except (BackupError, BackupTooLarge) as error:
            raise HttpError(500, str(error)) from error
        name = time.strftime("kora-%Y-%m-%d-%H%M%S.kora", time.gmtime())
        disposition = ("content-disposition", f'attachment; filename="{name}"')
        return Response(200, pieces, "application/octet-stream", (disposition,))

    async def restore(request: Request) -> Response:
        merge = request.flag("merge")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HttpError(415, "A backup is sent as it is, not compressed")
        try:
            with server.backups.alone("an import"):
                server.journal.record("backup.import_begun", address=request.address, merge=merge)
                try:
                    async with _spooled(request, options, thread) as file:
                        brought = await server.backups.restore(file, merge=merge)
                except (HttpError, BackupError) as error:
                    server.journal.record("backup.import_failed", reason=str(error))
                    raise
        except BackupBusy as error:
            raise _busy(error) from error
        except BackupError as error:
            raise HttpError(422, f"{error}. Nothing was changed") from error
        return json_response(200, {"operations": brought, "merged": merge})

    return [
        Route("/__kora/backup/export", ("POST",), export, Role.BACKUP),
        Route("/__kora/backup/import", ("POST",), restore, Role.BACKUP),
    ]


def _busy(error: BackupBusy) -> HttpError:
    return HttpError(409, str(error), **{"retry-after": str(COME_AGAIN_S)})


@asynccontextmanager
async def _spooled(request: Request, options: ImportOptions, thread: ThreadPool) -> AsyncIterator[BinaryIO]:
    """The body as a file without a name, gone with the block or the process. Raises HttpError."""
    folder = options.folder or Path(tempfile.gettempdir())
    announced = request.body.size_bytes
    if announced is not None and announced > options.max_bytes:
        raise _too_large(options)
    try:
        with await thread.run(lambda: tempfile.TemporaryFile(dir=folder)) as file:
            await _receive(request, file, options, thread)
            yield file
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise HttpError(507, f"There is no room for the backup in {folder}; nothing was changed") from error


async def _receive(request: Request, file: BinaryIO, options: ImportOptions, thread: ThreadPool) -> None:
    pending = bytearray()
    size_bytes = 0

    def write() -> None:
        if shutil.disk_usage(file.fileno()).free < len(pending) + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.write(pending)
        pending.clear()

    async for chunk in request.body.chunks():
        size_bytes += len(chunk)
        if size_bytes > options.max_bytes:
            raise _too_large(options)
        pending += chunk
        if len(pending) >= WRITTEN_AT_ONCE:
            await thread.run(write)
    await thread.run(write)


def _too_large(options: ImportOptions) -> HttpError:
    return HttpError(413, f"A backup may have at most {options.max_bytes} bytes here, see admin.max_import_bytes")
