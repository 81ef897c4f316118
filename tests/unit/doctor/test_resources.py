"""Open files, memory, the clock, and what holds files."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kora_daemon.doctor import clock, places, resources
from kora_daemon.doctor.checks import Finding
from kora_daemon.doctor.places import Mount, mount_of, nearest
from kora_daemon.doctor.sizes import size_text
from tests.support.doctor import finding, is_doubtful, is_well, settings


def found(folder: Path, name: str, toml: str = "") -> Finding | None:
    return finding(resources.resources(settings(folder, toml)), name)


def test_as_many_files_as_devices_may_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"most": 5_000}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, limits["most"]))
    is_well(found(tmp_path, "limits.files"), "5,000 files may be open, room for 4,932 connections")
    is_well(found(tmp_path, "limits.files", "[server]\nmax_connections = 3900"))
    few = found(tmp_path, "limits.files", "[server]\nmax_connections = 4000")
    is_doubtful(few, "server.max_connections is 4,000", "LimitNOFILE=5068")  # 1,000 may be not signed in yet
    limits["most"] = 1_024
    is_doubtful(found(tmp_path, "limits.files"), "sets no limit")
    limits["most"] = resource.RLIM_INFINITY
    is_well(found(tmp_path, "limits.files"))


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with 1 GiB; the folder of its control groups."""
    (tmp_path / "meminfo").write_text("MemTotal:        1048576 kB\nMemFree:  5 kB\n")
    (tmp_path / "own").write_text("0::/system.slice/kora.service\n")
    groups = tmp_path / "cgroup"
    (groups / "system.slice" / "kora.service").mkdir(parents=True)
    for name, path in (("MEMORY", "meminfo"), ("OWN_CGROUP", "own"), ("CGROUPS", "cgroup")):
        monkeypatch.setattr(resources, name, tmp_path / path)
    return groups


def test_memory_for_devices_that_all_stall(tmp_path: Path, memory: Path) -> None:
    is_well(found(tmp_path, "limits.memory"), "1.0 GiB (this host) take 32 devices", "sets no limit")
    is_well(found(tmp_path, "limits.memory", "[server]\nmax_connections = 32"))
    is_doubtful(found(tmp_path, "limits.memory", "[server]\nmax_connections = 33"), "lets 33 in")

    (memory / "system.slice" / "kora.service" / "memory.max").write_text("max\n")
    (memory / "system.slice" / "memory.max").write_text(f"{128 << 20}\n")
    is_well(found(tmp_path, "limits.memory"), "128 MiB (the control group) take 4 devices")


@pytest.mark.parametrize(
    ("answer", "judge"), [(0, is_well), (5, is_doubtful), (-1, None)], ids=["right", "loose", "not allowed"]
)
def test_a_clock_that_nothing_keeps_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, judge: Any
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(adjtimex=lambda buffer: answer))
    told = finding(clock.clock(settings(tmp_path)), "clock.synchronised")
    judge(told) if judge is not None else _nothing(told)


def _nothing(told: Finding | None) -> None:
    assert told is None


def test_the_clock_can_be_asked_here(tmp_path: Path) -> None:
    told = finding(clock.clock(settings(tmp_path)), "clock.synchronised")
    assert told is None or "UTC" in told.found


def test_what_holds_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b" / "in").mkdir(parents=True)
    escaped = str(tmp_path).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(
        f"""\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:45 / {escaped}/a\\040b rw,relatime - nfs4 server:/export rw
31 30 0:46 / {escaped}/a\\040b/in rw - tmpfs tmpfs rw
32 30 0:47 / {escaped}/a\\040b/in rw - overlay overlay rw
"""
    )
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "mounts")
    assert mount_of(tmp_path / "kora.db") == Mount("ext4", "/")
    assert mount_of(tmp_path / "a b" / "not" / "there") == Mount("nfs4", f"{tmp_path}/a b")
    assert mount_of(tmp_path / "a b" / "in" / "kora.db") == Mount("overlay", f"{tmp_path}/a b/in")
    assert nearest(tmp_path / "x" / "y") == tmp_path
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "none")
    assert mount_of(tmp_path) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes_are_read_by_people(size: int, text: str) -> None:
    assert size_text(size) == text
