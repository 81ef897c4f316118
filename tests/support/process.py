"""The real daemon as a child process, as an operator runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

KORA = (sys.executable, "-m", "koractl")
UNLIMITED = """
[server]
host = "127.0.0.1"
port = 0
[limits]
max_operations_per_minute = 0
"""
"""Settings for devices that write as fast as they can. More of `[limits]` may follow."""
HAND_OVER = """
import os, sys
given, command = [int(one) for one in sys.argv[1].split(",")], sys.argv[2:]
aside = [os.dup(one) for one in given]
for number, one in enumerate(aside, 3):
    os.dup2(one, number)
    os.set_inheritable(number, True)
for one in {*given, *aside} - {*range(3, 3 + len(given))}:
    os.close(one)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given))}
os.execv(command[0], command)
"""
"""As systemd does it: from descriptor 3 on, in the name of the process that becomes the daemon."""


class Daemon:
    """`kora serve` on a folder of its own. `start` after `kill` serves the same database again.

    `sockets` are handed over to it, as by a service manager; they stay open here. `program` is what takes the place of
    `kora`: the same, in surroundings of its own.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        environment: dict[str, str] | None = None,
        sockets: Sequence[socket.socket] = (),
        program: Sequence[str] = KORA,
    ) -> None:
        self.folder = folder
        self.config = folder / "kora.toml"
        self.config.write_text(config or '[server]\nhost = "127.0.0.1"\nport = 0\n')
        self._environment = {**os.environ, **(environment or {})}
        self._sockets = sockets
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.urls: list[str] = []
        self.log = folder / "daemon.log"

    @property
    def process(self) -> subprocess.Popen[str]:
        """The child, once started."""
        assert self._process is not None
        return self._process

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    def start(self) -> Daemon:
        """Start it and wait for the line that says it is ready."""
        self.begin()
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        # It prints one line and then nothing: should it hang before, the test's own time limit ends the wait.
        self.urls = re.findall(r"wss?://[^\s,]+", line)
        assert self.urls, f"not ready: {line!r}\n{self.log.read_text()}"
        self.url = self.urls[0]
        return self

    def begin(self) -> None:
        """Start it."""
        command = [*self._program, "serve", "--config", str(self.config)]
        descriptors = [one.fileno() for one in self._sockets]
        if descriptors:
            command = [sys.executable, "-c", HAND_OVER, ",".join(map(str, descriptors)), *command]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                pass_fds=descriptors,
            )

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: nothing gets the chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def logged(self) -> str:
        """Everything on stderr so far."""
        return self.log.read_text()

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self.kill()
            if self._process.stdout is not None:
                self._process.stdout.close()
