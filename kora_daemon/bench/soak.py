"""Soak: hours of mixed load, with devices that come and go. Whether anything grows, and whether anything is lost."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from kora_daemon.bench import messages as say
from kora_daemon.bench.client import State
from kora_daemon.bench.deliveries import Deliveries
from kora_daemon.bench.filling import fill
from kora_daemon.bench.load import PAYLOAD, amount, file
from kora_daemon.bench.loop import now_s
from kora_daemon.bench.operations import Author
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples
from kora_daemon.bench.sending import Pace
from kora_daemon.bench.verdict import judged
from kora_daemon.errors import KoraError

_ENDLESS = 2**62
_RECORDS = 250
"""Records of a writer: once they are there, everything is an update, and tables stay as large as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakLoad:
    """How much of what."""

    minutes: float = amount(120, "How long.", least=0.01)
    writers: int = amount(20, "Devices that write.")
    listeners: int = amount(40, "Devices whose deliveries are counted.")
    rate: float = amount(40, "Operations a second, of all writers together.", least=0.01)
    reconnects: float = amount(60, "Devices a minute that go, every other without a word, and come back.", least=0.01)
    away: float = amount(2, "Seconds that they are away.", least=0)
    presence: float = amount(4, "Presence updates a second, of all listeners together.", least=0.01)
    interval: float = amount(60, "Seconds between two samples.", least=0.1)
    preload: int = amount(50_000, "Operations that the log has at least, before: so that caches are full.", least=0)
    payload: int = amount(120, PAYLOAD)
    samples: Path | None = file("For the samples: a line of JSON each, as soon as it is taken.")  # noqa: RUF009


def run(rig: Rig, load: SoakLoad) -> Figures:
    """Load the server, sample it, and judge. Raises KoraError when the file for the samples can't be written."""
    with nullcontext() if load.samples is None else _opened(load.samples) as lines:
        return _Soak(rig, load, lines).run()


def _opened(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise KoraError(f"{path} can't be written: {error.strerror}") from error


class _Soak:
    def __init__(self, rig: Rig, load: SoakLoad, lines: TextIO | None) -> None:
        self._rig = rig
        self._load = load
        self._lines = lines
        self._random = random.Random(7)  # noqa: S311  a schedule, the same in each run
        self._start = fill(rig, load.preload, _RECORDS, load.payload)
        self._writers = rig.clients(load.writers, self._start)
        self._listeners = rig.clients(load.listeners, self._start)
        self._everybody = [*self._writers, *self._listeners]
        self._authors = [Author(one.node_id, payload_bytes=load.payload, records=_RECORDS) for one in self._writers]
        self._deliveries = Deliveries()
        self._deliveries.listen(self._listeners)
        self._acks = Samples()
        self._unacknowledged = self._reconnects = 0
        self._samples: list[dict[str, Any]] = []
        self._writing = self._paced(load.rate, self._write)
        self._paces = [
            self._writing,
            self._paced(load.reconnects / 60, self._reconnect),
            self._paced(load.presence, self._show_presence),
        ]

    def run(self) -> Figures:
        """Until the time is over and everything has arrived."""
        self._rig.open(self._everybody)
        for pace in self._paces:
            pace.begin()
        self._began, self._sampled = now_s(), 0
        self._rig.watch.begin()
        self._rig.loop.at(self._began + self._load.interval, self._sample)
        self._rig.loop.rest(self._load.minutes * 60)
        for pace in self._paces:
            pace.stop()
        self._settle()
        verdict = judged(self._samples)
        for name, one in verdict.items():
            if not one["flat"]:
                self._rig.trouble[f"{name} is not flat: {one['before']} and then {one['after']}"] += 1
        return {
            "operations": self._deliveries.planned,
            "deliveries": self._deliveries.delivered,
            "reconnects": self._reconnects,
            "samples": len(self._samples),
            "verdict": verdict,
        }

    def _paced(self, per_s: float, act: Callable[[int, float], None]) -> Pace:
        return Pace(self._rig.loop, 1 / per_s, _ENDLESS, act)

    def _write(self, number: int, due: float) -> None:
        place = number % len(self._writers)
        writer, operations = self._writers[place], self._authors[place].write(1)
        self._deliveries.plan(operations)
        self._unacknowledged += 1
        # What waits for its author to come back is late by that, whatever the server does.
        is_here = writer.is_streaming
        if is_here:
            self._deliveries.mark_due(operations, due)

        def acked(at: float) -> None:
            self._unacknowledged -= 1
            if is_here:
                self._acks.add(at - due)

        writer.upload(say.upload(operations), acked)

    def _reconnect(self, number: int, _due: float) -> None:
        here = [one for one in self._everybody if one.is_streaming]
        if here:
            one = self._random.choice(here)
            one.close(reset=number % 2 == 0)
            self._reconnects += 1
            self._rig.loop.at(now_s() + self._load.away, lambda _moment: one.open())

    def _show_presence(self, number: int, _due: float) -> None:
        place = number % len(self._listeners)
        if self._listeners[place].is_streaming:
            self._listeners[place].send(say.presence(f"User {place}", place + 1, number))

    def _sample(self, moment: float) -> None:
        if self._writing.is_over:
            return
        self._rig.loop.at(moment + self._load.interval, self._sample)
        self._sampled, operations = self._writing.sent, self._writing.sent - self._sampled
        costs = self._rig.watch.end(operations=operations)
        connections = sum(one.state is not State.CLOSED for one in self._everybody)
        taken = {
            "minute": round((moment - self._began) / 60, 2),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "operations": operations,
            "connections": connections,
            # Those that are no connections.
            "otherDescriptors": costs["server"]["descriptors"] - connections if "server" in costs else None,
            **costs,
            "ackMs": self._acks.percentiles_ms(),
            "deliveryMs": self._deliveries.each.percentiles_ms(),
            "generatorBehindMs": self._writing.behind.percentiles_ms(),
            "unacknowledged": self._unacknowledged,
            "undelivered": self._deliveries.missing,
            "doubled": self._deliveries.doubled,
            "caughtUp": self._deliveries.caught_up,
            "reconnects": self._reconnects,
            "repeats": sum(one.repeats for one in self._everybody),
            "gaps": sum(one.gaps for one in self._everybody),
            "storeMiB": self._store_mib(),
            "trouble": dict(self._rig.trouble),
        }
        for samples in (self._acks, self._deliveries.each, self._deliveries.all, self._writing.behind):
            samples.clear()
        self._rig.watch.begin()
        self._samples.append(taken)
        if self._lines is not None:
            self._lines.write(f"{json.dumps(taken)}\n")
            self._lines.flush()

    def _store_mib(self) -> float | None:
        if self._rig.daemon is None:
            return None
        files = self._rig.daemon.folder.glob("kora.db*")
        return round(sum(one.stat().st_size for one in files) / 1_048_576, 2)

    def _settle(self) -> None:
        """Everybody comes back and gets what is missing; then the log has everything once."""
        deliveries = self._deliveries
        self._rig.loop.rest(self._load.away)
        self._rig.wait(lambda: all(one.is_streaming for one in self._everybody), "devices that did not come back")
        self._rig.wait(lambda: not self._unacknowledged and deliveries.is_complete, "what did not arrive")
        self._rig.judge(deliveries)
        for client in self._everybody:
            client.close()
        self._rig.check_log(self._start, deliveries.planned)
