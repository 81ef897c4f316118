"""Listening sockets that the service manager has opened for the daemon (sd_listen_fds(3)).

They are its own as well, so that connections wait in their queues while the daemon is being restarted.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from kora_daemon.errors import ListenError

FIRST_DESCRIPTOR = 3


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that are meant for this process. They are named in the environment no more, and no child gets them.

    Raises ListenError for one that no device could connect to.
    """
    count, process = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    return [
        _listening(FIRST_DESCRIPTOR + index, names[index] if index < len(names) else "unknown")
        for index in range(int(count))
    ]


def _listening(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        found = socket.socket(fileno=descriptor)
        is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
        if is_tcp and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return found
        found.close()
    except OSError as error:
        raise ListenError(f"descriptor {descriptor} ({name}) can't be used as a socket: {error.strerror}") from error
    raise ListenError(
        f"descriptor {descriptor} ({name}) is no listening TCP socket, expected a socket unit with "
        f"ListenStream=PORT or ListenStream=ADDRESS:PORT, and Accept=no"
    )
