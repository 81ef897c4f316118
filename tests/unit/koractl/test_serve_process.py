"""`kora serve` as a process of its own: what a supervisor sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATIENCE_S = 20


@pytest.fixture
def served(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "kora.toml").write_text('[server]\nhost = "127.0.0.1"\nport = 0\n')
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KORA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "koractl", "serve"],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate(timeout=PATIENCE_S)


def test_it_says_one_line_when_ready_logs_to_stderr_and_ends_well(
    served: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert served.stdout is not None
    said, _, url = served.stdout.readline().strip().rpartition(" ")
    assert said == "Kora Daemon is ready on"
    with urllib.request.urlopen(f"{url.replace('ws:', 'http:')}health", timeout=PATIENCE_S) as health:
        assert health.status == 200

    served.send_signal(signal.SIGTERM)
    out, err = served.communicate(timeout=PATIENCE_S)

    assert (served.returncode, out) == (0, "")
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert events[0] == "daemon.ready"
    assert events[-1] == "daemon.stopped"
    assert (tmp_path / "kora.db").exists()
