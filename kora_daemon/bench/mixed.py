"""Mixed: some devices write at a given rate, others listen, and a few may have stopped reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kora_daemon.bench import messages as say
from kora_daemon.bench.client import Client
from kora_daemon.bench.deliveries import Deliveries
from kora_daemon.bench.load import PAYLOAD, UPDATES, amount
from kora_daemon.bench.operations import Author, records_for
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples
from kora_daemon.bench.sending import Pace

_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedLoad:
    """Who writes, who listens, who does not."""

    writers: int = amount(5, "Devices that write.")
    listeners: int = amount(20, "Devices that listen.")
    stalled: int = amount(0, "More devices, which stop reading: it is right to close them.", least=0)
    rate: float = amount(100, "Operations a second, of all writers together.", least=0.01)
    seconds: float = amount(15, "How long they write.", least=0.01)
    batch: int = amount(1, "Operations in a batch.")
    updates: int = amount(3, UPDATES, least=0)
    payload: int = amount(120, PAYLOAD)


def run(rig: Rig, load: MixedLoad) -> Figures:
    """Measure it."""
    start = rig.read_log()[0].watermark
    writers, listeners = rig.clients(load.writers, start), rig.clients(load.listeners, start)
    stalled = rig.clients(load.stalled, start)
    deliveries, acks = Deliveries(), Samples()
    deliveries.listen(listeners)
    uploads = list(_prepared(writers, load))
    for _, batch in uploads:
        deliveries.plan(batch.operations)
    rig.open([*writers, *listeners, *stalled])
    for one in stalled:
        one.may_be_dropped = True
        one.pause()

    def upload(number: int, due: float) -> None:
        writer, batch = uploads[number]
        deliveries.mark_due(batch.operations, due)
        writer.upload(batch, lambda at: acks.add(at - due))

    pace = Pace(rig.loop, load.batch / load.rate, len(uploads), upload)
    began = rig.begin()
    pace.begin()
    rig.wait(lambda: len(acks) == len(uploads), "uploads that were not acknowledged", load.seconds + rig.patience_s)
    seconds = rig.seconds_since(began)
    rig.wait(lambda: deliveries.is_complete, "deliveries")
    costs = rig.watch.end(operations=deliveries.planned, deliveries=deliveries.delivered)
    rig.judge(deliveries)
    return {
        "operations": deliveries.planned,
        "deliveries": deliveries.delivered,
        "operationsPerSecond": round(len(acks) * load.batch / seconds, 1),
        "ackMs": acks.percentiles_ms(),
        "deliveryMs": deliveries.each.percentiles_ms(),
        "allListenersMs": deliveries.all.percentiles_ms(),
        "generatorBehindMs": pace.behind.percentiles_ms(),
        **({"stalledAndClosed": _closed(rig, stalled)} if stalled else {}),
        **rig.traffic(listeners),
        **costs,
    }


def _prepared(writers: list[Client], load: MixedLoad) -> Iterator[tuple[Client, say.Batch]]:
    """The uploads of all writers, in turn."""
    rounds = max(1, int(load.rate * load.seconds / len(writers) / load.batch))
    records = records_for(rounds * load.batch, load.updates)
    authors = [Author(one.node_id, payload_bytes=load.payload, records=records) for one in writers]
    for _ in range(rounds):
        for writer, author in zip(writers, authors, strict=True):
            yield writer, say.upload(author.write(load.batch))


def _closed(rig: Rig, stalled: list[Client]) -> int:
    """How many of them the server has closed; they find out by reading again."""
    for one in stalled:
        one.resume()
    rig.loop.rest(_LAST_WORDS_S)
    return sum(not one.is_streaming for one in stalled)
