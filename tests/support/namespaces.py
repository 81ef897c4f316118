"""A host of its own for the daemon: another network namespace, with a wire from here to there that can be cut.

Needs root. Everything is gone with the process that made it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.process import KORA

HERE, ALSO_HERE, THERE = "10.123.4.1", "10.123.4.2", "10.123.4.3"
"""Two addresses of this end, one of the daemon's."""
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Wire:
    """Between this thread, which has two addresses, and another host."""

    def __init__(self, here: int, there: int) -> None:
        self._here, self._there = here, there
        self.program = ("nsenter", "--net", "--target", str(there), *KORA)
        """`kora`, on the other host."""

    def cut(self, address: str) -> None:
        """Let everything vanish that comes from or goes to an address of this end; nobody is told."""
        _run(self._here, "iptables", "-A", "INPUT", "-d", address, "-j", "DROP")
        _run(self._here, "iptables", "-A", "OUTPUT", "-s", address, "-j", "DROP")

    def mend(self) -> None:
        """Let everything through again."""
        _run(self._here, "iptables", "-F")


@contextmanager
def wired() -> Iterator[Wire]:
    """This thread is in a network of its own meanwhile."""
    with ExitStack() as stack:
        here, there = stack.enter_context(_namespace()), stack.enter_context(_namespace())
        _run(here, "ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(there))
        for process, addresses in ((here, (HERE, ALSO_HERE)), (there, (THERE,))):
            for address in addresses:
                _run(process, "ip", "address", "add", f"{address}/24", "dev", "wire")
            for link in ("lo", "wire"):
                _run(process, "ip", "link", "set", link, "up")
        stack.enter_context(_inside(here))
        yield Wire(here, there)


@contextmanager
def _namespace() -> Iterator[int]:
    """A new one, by a process in it."""
    holder = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    process = subprocess.Popen(["unshare", "--net", *holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


@contextmanager
def _inside(process: int) -> Iterator[None]:
    """What this thread opens, it opens there."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(f"/proc/{process}/ns/net")
        yield
    finally:
        _enter(f"/proc/self/fd/{before}")
        os.close(before)


def _enter(path: str) -> None:
    namespace = os.open(path, os.O_RDONLY)
    try:
        if _libc.setns(namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)


def _run(process: int, *command: str) -> None:
    subprocess.run(["nsenter", "--net", "--target", str(process), *command], check=True, capture_output=True)
