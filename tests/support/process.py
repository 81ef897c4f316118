"""The real daemon as a child process, as an operator runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType


class Daemon:
    """`kora serve` on a folder of its own. `start` after `kill` serves the same database again."""

    def __init__(self, folder: Path, config: str = "", environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.config = folder / "kora.toml"
        self.config.write_text(config or '[server]\nhost = "127.0.0.1"\nport = 0\n')
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
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
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "koractl", "serve", "--config", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )
        assert self._process.stdout is not None
        # It prints one line and then nothing: should it hang before, the test's own time limit ends the wait.
        line = self._process.stdout.readline()
        found = re.search(r"wss?://\S+", line)
        assert found is not None, f"not ready: {line!r}\n{self.log.read_text()}"
        self.url = found[0]
        return self

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
