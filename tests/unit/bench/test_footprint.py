"""What a process and those that it started take."""

from __future__ import annotations

import os
import subprocess
import sys

from kora_daemon.bench.footprint import Watch, footprint

CHILD = """
import os, sys, time
opened = [os.open("/dev/null", 0) for _ in range(20)]
held = bytearray(40_000_000)
while time.process_time() < 0.3:
    pass
print("ready", flush=True)
sys.stdin.read()
"""


def test_children_count_while_they_live_and_what_they_used_up_afterwards() -> None:
    before, watch = footprint(os.getpid()), Watch(os.getpid())
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        during = footprint(os.getpid())
        found = watch.end(operations=100)
    assert during.cpu_s - before.cpu_s >= 0.25
    assert during.descriptors - before.descriptors >= 20
    assert during.threads > before.threads
    assert footprint(os.getpid()).cpu_s - before.cpu_s >= 0.25
    assert found["server"]["cpuMsPer1000Operations"] >= 2_500
    assert found["server"]["rssPeakMiB"] > 5


def test_the_memory_of_children_counts() -> None:
    # Under a shell that has next to none itself; what tests run in has much, and may lose some meanwhile.
    command = ["sh", "-c", '"$0" -c "$1"; exit', sys.executable, CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"ready\n"
        during = footprint(shell.pid)
    assert during.rss_mib > 30 > during.peak_mib


def test_a_process_that_is_gone_takes_nothing() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    assert footprint(gone.pid) == (0, 0, 0, 0, 0)
    assert set(Watch(None).end(operations=1)) == {"generator"}
