"""One target in a process of its own, which may die of it."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import structlog
from msgspec import Struct

from tests.fuzz.campaign import Campaign, Notebook, Report, keep_failure, seeded
from tests.fuzz.guided import guided
from tests.fuzz.target import Target

STUCK_S = 90.0
"""No new input for so long, by the clock on the wall: it hangs where no signal reaches it."""
MAX_ADDRESS_BYTES = 6 << 30
"""Of the process, libraries and stacks included; beyond it there is no memory."""
_LOOK_EVERY_S = 0.2
_NOTEBOOK_BYTES = 1 << 20


class Order(Struct, frozen=True):
    """What is wanted of a worker."""

    target: str
    inputs: int
    seed: int
    folder: str
    seconds: float = math.inf
    """No longer than that, by the clock on the wall."""
    is_guided: bool = False


def work(order: Order) -> Report:
    """The report of a campaign in a process of its own."""
    # Forked, so that the notebook is the same memory for both.
    context = multiprocessing.get_context("fork")
    notebook = Notebook.blank(_NOTEBOOK_BYTES)
    receiving, sending = context.Pipe(duplex=False)
    # Ours, since it never comes to tidying up.
    with tempfile.TemporaryDirectory(prefix="kora-fuzz-", ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_main, args=(order, notebook, sending, folder))
        process.start()
        sending.close()
        try:
            report = _awaited(receiving, notebook)
        finally:
            process.kill()
            process.join()
    if report is None:
        count, data = notebook.read()
        failure = keep_failure(Path(order.folder), order.target, data, ("Died", "or hung"), f"{process.exitcode}")
        report = Report(order.target, count + 1, failures=[failure])
    return report


def _awaited(receiving: Connection, notebook: Notebook) -> Report | None:
    """What the worker reports, None when it has died or is stuck."""
    moved_at, seen = time.monotonic(), -1
    while time.monotonic() - moved_at < STUCK_S:
        try:
            if receiving.poll(_LOOK_EVERY_S):
                return receiving.recv()
        except EOFError:
            return None
        if notebook.read()[0] != seen:
            moved_at, seen = time.monotonic(), notebook.read()[0]
    return None


def _main(order: Order, notebook: Notebook, sending: Connection, folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = folder
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
    structlog.configure(processors=[_drop])
    campaigns: list[Campaign] = []

    def begin(target: Target) -> Campaign:
        campaigns.append(Campaign(target, Path(order.folder), notebook))
        return campaigns[0]

    def done() -> NoReturn:
        sending.send(campaigns[0].report)
        os._exit(0)

    if order.is_guided:
        guided(order.target, order.inputs, order.seed, begin, done)
    from tests.fuzz.targets import TARGETS

    target = TARGETS[order.target]
    seeded(begin(target), target, order.inputs, order.seed, order.seconds)
    done()


def _drop(_logger: object, _method: str, _event: object) -> NoReturn:
    raise structlog.DropEvent
