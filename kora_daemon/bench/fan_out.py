"""Fan-out: one device writes, many listen."""

from __future__ import annotations

from dataclasses import dataclass

from kora_daemon.bench import messages as say
from kora_daemon.bench.deliveries import Deliveries
from kora_daemon.bench.filling import fill
from kora_daemon.bench.load import PAYLOAD, PRELOAD, UPDATES, amount
from kora_daemon.bench.operations import Author, chunks, records_for, subset
from kora_daemon.bench.report import Figures
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples
from kora_daemon.bench.sending import Pace, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutLoad:
    """Who writes, and who listens."""

    listeners: int = amount(100, "Devices that listen.")
    views: int = amount(1, "Query subsets that listeners take turns at: different views, though all show everything.")
    operations: int = amount(500, "Operations that one device writes.")
    rate: float = amount(0, "Operations a second; 0: as fast as they are acknowledged.", least=0)
    batch: int = amount(1, "Operations in a batch.")
    window: int = amount(4, "Batches that are not acknowledged yet, at most; with a rate there is no such limit.")
    preload: int = amount(0, PRELOAD, least=0)
    updates: int = amount(3, UPDATES, least=0)
    payload: int = amount(120, PAYLOAD)


def run(rig: Rig, load: FanOutLoad) -> Figures:
    """Measure it."""
    start = fill(rig, load.preload, load.updates, load.payload)
    listeners, writer = rig.clients(load.listeners, start), rig.client(start)
    if load.views > 1:
        for number, one in enumerate(listeners):
            one.queries = subset(number % load.views)
    deliveries, acks = Deliveries(), Samples()
    deliveries.listen(listeners)
    author = Author(writer.node_id, payload_bytes=load.payload, records=records_for(load.operations, load.updates))
    operations = author.write(load.operations)
    deliveries.plan(operations)
    batches = [say.upload(one) for one in chunks(operations, load.batch)]
    rig.open([writer, *listeners])

    def upload(number: int, due: float) -> None:
        deliveries.mark_due(batches[number].operations, due)
        writer.upload(batches[number], lambda at: acks.add(at - due))

    pace = Pace(rig.loop, load.batch / load.rate, len(batches), upload) if load.rate else None
    window = Window(writer, batches, load.window, acks, lambda batch, at: deliveries.mark_due(batch.operations, at))
    began = rig.begin()
    (pace or window).begin()
    rig.wait(lambda: len(acks) == len(batches), "uploads that were not acknowledged")
    acked_s = rig.seconds_since(began)
    rig.wait(lambda: deliveries.is_complete, "deliveries")
    costs = rig.watch.end(operations=load.operations, deliveries=deliveries.delivered)
    rig.judge(deliveries)
    seconds = max(deliveries.last_at - began, acked_s)
    return {
        "operations": load.operations,
        "deliveries": deliveries.delivered,
        "seconds": round(seconds, 3),
        "operationsPerSecond": round(load.operations / acked_s, 1),
        "deliveriesPerSecond": round(deliveries.delivered / seconds),
        "deliveryMs": deliveries.each.percentiles_ms(),
        "allListenersMs": deliveries.all.percentiles_ms(),
        "ackMs": acks.percentiles_ms(),
        **({"generatorBehindMs": pace.behind.percentiles_ms()} if pace else {}),
        **rig.traffic(listeners),
        **costs,
    }
