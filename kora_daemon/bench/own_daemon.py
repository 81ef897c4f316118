"""A daemon to measure: `kora serve` as its operators run it, in a folder that is gone afterwards."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w

from kora_daemon.bench.operations import SCHEMA
from kora_daemon.errors import KoraError

_READY_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 30.0


class OwnDaemon:
    """One that was started here. `url` and `pid` are where it is."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self._process = process
        self.pid = process.pid
        self.url = self._ready_url()

    def complaints(self) -> list[str]:
        """What it has logged of errors."""
        return (self.folder / "daemon.log").read_text("utf-8", "replace").splitlines()

    def stop(self) -> int:
        """End it as a service manager does; its exit status. It has 30 s."""
        self._process.terminate()
        try:
            return self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ready_url(self) -> str:
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], (), (), _READY_TIMEOUT_S)[0]:
            raise KoraError(f"the daemon is not ready after {_READY_TIMEOUT_S:.0f} s")
        found = re.search(r"ws://[^\s,]+", stdout.readline())
        if found is None:
            self._process.wait(_END_TIMEOUT_S)
            raise KoraError("the daemon does not start: " + " ".join(self.complaints()[-3:]))
        return found[0]


@contextmanager
def own_daemon(store: str, store_url: str | None, *, tables: bool) -> Iterator[OwnDaemon]:
    """Start one and end it. Raises KoraError when it does not start."""
    with TemporaryDirectory(prefix="kora-bench-") as name:
        folder = Path(name)
        (folder / "kora.toml").write_text(tomli_w.dumps(_settings(store, store_url, tables=tables)), "utf-8")
        (folder / "schema.json").write_text(json.dumps(SCHEMA), "utf-8")
        with (
            (folder / "daemon.log").open("w") as log,
            subprocess.Popen(  # noqa: S603  ourselves
                [sys.executable, "-m", "koractl", "serve", "--config", str(folder / "kora.toml")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # What the environment sets is for other daemons.
                env={name: value for name, value in os.environ.items() if not name.startswith("KORA_")},
            ) as process,
        ):
            try:
                yield OwnDaemon(folder, process)
            finally:
                process.kill()


def _settings(store: str, store_url: str | None, *, tables: bool) -> Mapping[str, Any]:
    """Defaults, but for limits that would stop a load from one address, and log lines that would be measured too."""
    return {
        **({"schema": "schema.json"} if tables else {}),
        "server": {"host": "127.0.0.1", "port": 0},
        "limits": {
            "max_operations_per_minute": 0,
            "max_unauthenticated": 0,
            "max_unauthenticated_per_address": 0,
        },
        "store": {"kind": store, **({"url": store_url} if store_url else {})},
        "log": {"level": "error", "format": "json"},
    }
