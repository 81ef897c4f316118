"""`kora bench`: every mode in short, and that none of them overlooks what is lost, refused or doubled."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kora_daemon.bench.modes import MODES
from kora_daemon.bench.operations import SCHEMA
from koractl.app import main
from tests.support.meddler import Change, OnceUploaded, meddling
from tests.support.process import Daemon

CONFIG = """
schema = "schema.json"
[server]
host = "127.0.0.1"
port = 0
[limits]
max_operation_bytes = 2000
max_operations_per_minute = 0
"""
FEW = ("--operations", "12", "--batch", "3")


class Measured(NamedTuple):
    """How a run ended, and what it printed and complained of."""

    code: int
    out: str
    err: str

    @property
    def figures(self) -> dict[str, Any]:
        """What it found, clean or not."""
        found: dict[str, Any] = json.loads(self.out)
        assert found["ok"] == (self.code == 0), self
        return found


Bench = Callable[..., Measured]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that all runs measure."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    with Daemon(folder, CONFIG) as made:
        yield made


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    def run(*arguments: str) -> Measured:
        with pytest.raises(SystemExit) as ended:
            main(["bench", *arguments])
        assert isinstance(ended.value.code, int)
        return Measured(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def measured(bench: Bench, daemon: Daemon) -> Bench:
    def run(*arguments: str) -> Measured:
        return bench(*arguments, "--url", daemon.url, "--pid", str(daemon.process.pid), "--json")

    return run


SHORT = {
    "ingest": ("--clients 2 --operations 30 --batch 10 --preload 20", {"operations": 60, "stored": 60}),
    "fan-out": ("--listeners 3 --operations 10 --views 2", {"deliveries": 30, "gaps": 0, "arrivedPerOperation": 1.0}),
    "first-sync": ("--clients 2 --preload 50 --rounds 1 --pause 0.05", {"arrivedPerOperation": 1.0}),
    "connect": ("--clients 5 --at-once 2", {"connected": 5}),
    "idle": ("--clients 3 --seconds 0.1", {"connections": 3, "framesWhileIdle": 0}),
    "mixed": ("--writers 2 --listeners 3 --rate 100 --seconds 0.2 --batch 2", {"operations": 20, "deliveries": 60}),
    "awareness": ("--clients 3 --rate 20 --seconds 0.2", {"updates": 12}),
    "soak": (
        "--minutes 0.02 --interval 0.5 --preload 0 --writers 2 --listeners 3 --rate 30 --reconnects 180 --away 0.1",
        {"samples": 2, "verdict": {}},
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_measures_a_server_by_its_url(measured: Bench, mode: str) -> None:
    options, expected = SHORT[mode]
    found = measured(mode, *options.split())
    assert (found.code, found.err) == (0, "")
    assert (found.figures["mode"], found.figures["problems"]) == (mode, {})
    assert {name: found.figures[name] for name in expected} == expected
    if mode != "soak":
        assert found.figures["server"]["cpuSeconds"] >= 0
        assert found.figures["server"]["rssPeakMiB"] > 10


@pytest.mark.parametrize("mode", MODES)
def test_where_nobody_is_let_in_there_is_nothing_to_measure(bench: Bench, mode: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
    found = bench(mode, "--url", url, "--patience", "5")
    assert (found.code, found.out) == (1, "")
    assert "no device was let in: connection ended: Connection refused (" in found.err


def test_with_a_rate_times_count_from_the_moment_that_an_operation_was_due(measured: Bench) -> None:
    found = measured("fan-out", "--listeners", "2", "--operations", "8", "--rate", "40").figures
    assert found["seconds"] > 7 / 40
    assert found["deliveryMs"]["max"] >= found["generatorBehindMs"]["max"]


def test_a_soak_writes_its_samples_down(measured: Bench, tmp_path: Path) -> None:
    assert measured("soak", *SHORT["soak"][0].split(), "--samples", str(tmp_path / "lines")).code == 0
    first, second = (json.loads(line) for line in (tmp_path / "lines").read_text().splitlines())
    assert first["minute"] < second["minute"]
    for name in ("rssAfterMiB", "threads", "descriptors"):
        assert first["server"][name] > 0
    assert (first["doubled"], first["trouble"]) == (0, {})
    assert measured("soak", "--samples", str(tmp_path / "no" / "lines")).err.startswith("kora: ")


def test_it_starts_a_daemon_of_its_own_and_prints_a_table(bench: Bench) -> None:
    found = bench("fan-out", "--listeners", "2", "--operations", "4", "--store", "memory", "--schema", "none")
    assert (found.code, found.err) == (0, "")
    assert re.search(r"│ deliveries +│ 8 +│", found.out)
    assert re.search(r"│ delivery ms +│ p50 \S+  p90 \S+  p99 \S+  max \S+ +│", found.out)
    assert re.search(r"│ server: cpu ms per 1000 deliveries +│ [\d.,]+ +│", found.out)


def test_ended_from_outside_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "koractl", "bench", "idle", "--clients", "1", "--seconds", "3600"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
    ) as run:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("kora-bench-*/kora.db")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            run.terminate()
            assert run.communicate(timeout=60) == (None, b"")
            assert run.returncode == 130
        finally:
            run.kill()
    assert not list(tmp_path.iterdir())


def _lose_one(message: dict[str, Any]) -> None:
    del message["operations"][0]


def _double_one(message: dict[str, Any]) -> None:
    message["operations"].append(message["operations"][0])


@pytest.mark.parametrize(("change", "problem"), [(_lose_one, "deliveries lost"), (_double_one, "deliveries doubled")])
def test_an_operation_that_a_listener_does_not_get_once_is_a_failure(
    bench: Bench, daemon: Daemon, change: Change, problem: str
) -> None:
    meddler = OnceUploaded(change)
    with meddling(daemon.port, down=meddler.said, up=meddler.heard) as url:
        found = bench("fan-out", "--listeners", "2", *FEW, "--url", url, "--patience", "1", "--json")
    assert found.figures["problems"][problem] == 1


def test_what_was_acknowledged_and_is_not_stored_is_a_failure(bench: Bench, daemon: Daemon) -> None:
    def lose_all(message: dict[str, Any]) -> None:
        if message["type"] == "operation-batch":
            message["operations"] = []

    with meddling(daemon.port, up=lose_all) as url:
        found = bench("ingest", *FEW, "--url", url)
    assert (found.code, found.err) == (1, "kora: operations in the log lost (12 times)\n")


def test_what_is_refused_is_a_failure(measured: Bench) -> None:
    found = measured("ingest", *FEW, "--payload", "3000").figures
    assert found["problems"] == {"refused: OPERATION_TOO_LARGE": 12, "operations in the log lost": 12}


def test_a_server_that_is_not_there_is_a_failure(bench: Bench, tmp_path: Path) -> None:
    assert "Connection refused" in bench("connect", "--clients", "1", "--url", "ws://127.0.0.1:1/").err
    assert bench("connect", "--url", "wss://127.0.0.1/").err.startswith("kora: --url wss://127.0.0.1/: expected ws://")
    assert bench("connect", "--store", "postgres").err.startswith("kora: the daemon does not start: ")
