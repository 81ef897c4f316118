"""The control socket: the same answers for commands on this host, without a token.

A Unix socket that only the daemon's own user (and root) can open. Whoever listens there is never pushed aside; what a
dead daemon has left behind is replaced.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import trio

from kora_daemon.errors import ListenError
from kora_daemon.http.connection import Caller, HttpConnection
from kora_daemon.http.messages import Answer

BACKLOG = 64
_LOCK_PATIENCE_S = 2.0
_MODE = 0o600
_CREDENTIALS = struct.Struct("iII")
_CALLER = Caller(lambda headers: "control socket", is_local=True)

log = structlog.get_logger("kora.control")


async def serve_control_socket(
    path: Path, answer: Answer, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Listen at `path` until cancelled, then take the socket away. Raises ListenError when that can't be."""
    with _our_socket(path, await _bound(path)) as listening:
        task_status.started()

        async def serve(accepted: trio.SocketStream) -> None:
            await _serve(accepted, answer)

        await trio.serve_listeners(serve, [trio.SocketListener(listening)])


async def _serve(accepted: trio.SocketStream, answer: Answer) -> None:
    try:
        if _is_own_user(accepted.socket):
            await HttpConnection(accepted, _CALLER, answer, lambda request: False).serve()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the peer has gone
    except* Exception:
        log.exception("http.crashed")
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await accepted.aclose()


def _is_own_user(peer: trio.socket.SocketType) -> bool:
    """The file's mode says so already; not every system looks at it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user in (0, os.geteuid())


async def _bound(path: Path) -> trio.socket.SocketType:
    """A socket that listens at `path`. Raises ListenError."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _no_socket(path, error.strerror or str(error)) from error
    try:
        _check_folder(path, os.fstat(folder))
        await _lock(folder, path)
        _remove_stale(path)
        return await _listening(path)
    except OSError as error:
        raise _no_socket(path, error.strerror or str(error)) from error
    finally:
        os.close(folder)


def _no_socket(path: Path, reason: str) -> ListenError:
    return ListenError(f'no control socket at {path}: {reason}; name another place as admin.socket, or "" for none')


def _check_folder(path: Path, folder: os.stat_result) -> None:
    """Where others may rename files they could put a socket of their own in place of this one."""
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise _no_socket(path, "everybody may write in its folder")
    if folder.st_uid not in (0, os.geteuid()):
        raise _no_socket(path, "its folder belongs to somebody else")


async def _lock(folder: int, path: Path) -> None:
    """One daemon at a time looks for leftovers in a folder: two would take each other's new socket for one."""
    with trio.move_on_after(_LOCK_PATIENCE_S):
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            await trio.sleep(0.02)
    raise _no_socket(path, "somebody holds its folder locked")


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _no_socket(path, "there is something else by that name")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its backlog is full
    raise _no_socket(path, "another daemon listens there")


async def _listening(path: Path) -> trio.socket.SocketType:
    opened = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        # Nobody can connect before `listen`, so it is closed to others from the start, whatever the umask is. The umask
        # itself is everybody's in this process.
        with suppress(OSError):
            os.fchmod(opened.fileno(), _MODE)
        await opened.bind(os.fspath(path))
        path.chmod(_MODE)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


@contextmanager
def _our_socket(path: Path, opened: trio.socket.SocketType) -> Iterator[trio.socket.SocketType]:
    """Take it away at the end, unless there is another one by now."""
    ours = path.lstat()
    try:
        yield opened
    finally:
        opened.close()
        with suppress(OSError):
            if os.path.samestat(path.lstat(), ours):
                path.unlink()
