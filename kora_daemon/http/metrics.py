"""`/__kora/metrics`: the numbers of a server for Prometheus (docs/monitoring.md says what each of them means).

Taken as plain numbers where things happen and put into families when somebody asks, so that nobody else pays for it.
Labels have few values, all known beforehand: never who or what, only what kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kora_daemon.http.access import Role
from kora_daemon.http.messages import Request, Response
from kora_daemon.http.routes import Route
from kora_daemon.server.measures import Counts, Measures, Tally
from kora_daemon.server.oversight import SessionState
from kora_daemon.server.process import process_state
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.version import VERSION

PHASES = ("connected", "authenticating", "authenticated", "syncing", "streaming")
QUEUE_BYTES = (0, 1_024, 16_384, 262_144, 1_048_576, 4_194_304, 16_777_216)
LAG_OPERATIONS = (0, 1, 10, 100, 1_000, 10_000, 100_000)


class Survey(Struct, frozen=True):
    """What has to be looked up when somebody asks."""

    sessions: Sequence[SessionState]
    store_bytes: int | None
    ready: bool


class ServerCollector(Collector):
    """A server's numbers as Prometheus families, for a registry of one's own. `survey` is as of the last `look`."""

    def __init__(self, server: SyncServer) -> None:
        self._server = server
        self._survey = Survey((), None, False)

    async def look(self) -> None:
        """Look up what has to be looked up."""
        oversight = self._server.oversight
        sessions = await oversight.sessions()
        store_bytes = await oversight.store_bytes()
        ready = not self._server.draining and self._server.store_failure is None
        self._survey = Survey(sessions, store_bytes, ready)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: what there is does not depend on it."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from _traffic(self._server.measures)
        yield from _outcomes(self._server.measures)
        yield from _times(self._server.measures)
        if not self._server.is_over:
            yield from _state(self._server, self._survey)
            yield from _sessions(self._survey.sessions)


def metrics_route(server: SyncServer) -> Route:
    """`/__kora/metrics`, as text or OpenMetrics, whichever is asked for."""
    registry = CollectorRegistry()
    collector = ServerCollector(server)
    registry.register(collector)
    ProcessCollector(registry=registry)

    async def answer(request: Request) -> Response:
        await collector.look()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(200, encode(registry), content_type)

    return Route("/__kora/metrics", ("GET",), answer, Role.METRICS)


def _traffic(measures: Measures) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "kora_uploaded_operations", "Operations that devices have sent", measures.uploaded_operations
    )
    yield CounterMetricFamily(
        "kora_uploaded_bytes", "Bytes of the batches that devices have sent", measures.uploaded_bytes
    )
    yield CounterMetricFamily(
        "kora_delivered_operations", "Operations sent to devices, once for each", measures.delivered_operations
    )
    yield CounterMetricFamily(
        "kora_delivered_bytes", "Bytes of the operations sent to devices", measures.delivered_bytes
    )
    yield CounterMetricFamily(
        "kora_dropped_presence_frames", "Presence not sent to slow devices", measures.dropped_presence
    )
    yield CounterMetricFamily(
        "kora_unheard_messages", "Presence and the like beyond the limits of a session", measures.unheard_messages
    )
    yield CounterMetricFamily("kora_store_outages", "How often the store has stopped to take writes", measures.outages)


def _outcomes(measures: Measures) -> Iterator[Metric]:
    yield _counts("kora_rejected_operations", "Operations refused, by code", "code", measures.rejections)
    yield _counts("kora_errors", "Errors that sessions were closed with, by code", "code", measures.errors)
    yield _counts("kora_closes", "Connections ended, by close code, or by the peer", "code", measures.closes)
    yield _counts("kora_auth", "Answers of the auth provider to handshakes", "outcome", measures.auth)
    yield _counts("kora_blobs", "Contents of files kept, given away or dropped", "outcome", measures.blobs)
    connections = CounterMetricFamily(
        "kora_connections", "What became of connections, by transport", labels=["transport", "result"]
    )
    for transport, counts in sorted(measures.connections.items()):
        for result, count in counts.complete().items():
            connections.add_metric([transport, result], count)
    yield connections


def _times(measures: Measures) -> Iterator[Metric]:
    yield _histogram(
        "kora_write_to_ack_seconds", "From the receipt of a batch to its acknowledgment", measures.write_to_ack
    )
    yield _histogram(
        "kora_write_to_deliver_seconds",
        "From the receipt of an operation to its live delivery to a device",
        measures.write_to_deliver,
    )
    yield _histogram(
        "kora_first_sync_seconds",
        "From the handshake to the last batch of what a device lacked that had nothing",
        measures.first_sync_seconds,
    )
    yield _histogram("kora_resync_seconds", "The same for a device that had something", measures.resync_seconds)
    yield _histogram("kora_commit_operations", "Operations in one commit", measures.commit_operations)
    yield _histogram("kora_commit_seconds", "Time for one commit", measures.commit_seconds)
    yield _histogram("kora_loop_lag_seconds", "How late the event loop is", measures.loop_lag)


def _state(server: SyncServer, survey: Survey) -> Iterator[Metric]:
    status = server.get_status()
    waiting_operations, waiting_bytes = server.writer.waiting
    build = GaugeMetricFamily("kora_build_info", "Which version runs", labels=["version", "store"])
    build.add_metric([VERSION, server.store_kind], 1)
    yield build
    yield GaugeMetricFamily("kora_ready", "Whether the store takes writes and nothing is stopping", int(survey.ready))
    yield GaugeMetricFamily("kora_uptime_seconds", "Time since the start", status.uptime_s)
    yield GaugeMetricFamily("kora_log_frontier", "Newest delivery sequence of the log", status.frontier)
    yield GaugeMetricFamily("kora_log_operations", "Operations in the log", status.total_operations)
    if survey.store_bytes is not None:
        yield GaugeMetricFamily("kora_store_bytes", "Room that the store takes on disk", survey.store_bytes)
    yield GaugeMetricFamily("kora_waiting_operations", "Operations waiting for a commit", waiting_operations)
    yield GaugeMetricFamily("kora_waiting_bytes", "Bytes waiting for a commit", waiting_bytes)
    yield GaugeMetricFamily("kora_threads", "Threads of the process", process_state().threads)


def _sessions(sessions: Sequence[SessionState]) -> Iterator[Metric]:
    by_phase = GaugeMetricFamily("kora_sessions", "Sessions, by phase", labels=["phase"])
    for phase in PHASES:
        by_phase.add_metric([phase], sum(one.phase == phase for one in sessions))
    yield by_phase
    yield _distribution(
        "kora_session_queue_bytes",
        "Sessions by the bytes that wait for their device to read",
        sessions,
        (QUEUE_BYTES, lambda one: one.buffered_bytes),
    )
    yield _distribution(
        "kora_session_lag_operations",
        "Sessions by how far their device is behind the log",
        sessions,
        (LAG_OPERATIONS, lambda one: one.lag),
    )


def _counts(name: str, text: str, label: str, counts: Counts) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.complete().items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, tally: Tally) -> Metric:
    return HistogramMetricFamily(name, text, buckets=_buckets(tally), sum_value=tally.total)


def _buckets(tally: Tally) -> list[tuple[str, float]]:
    return [("+Inf" if bound == math.inf else str(float(bound)), count) for bound, count in tally.cumulative()]


def _distribution(
    name: str,
    text: str,
    sessions: Sequence[SessionState],
    scale: tuple[Sequence[float], Callable[[SessionState], int]],
) -> Metric:
    bounds, value = scale
    tally = Tally(bounds)
    for one in sessions:
        tally.add(value(one))
    return GaugeHistogramMetricFamily(name, text, buckets=_buckets(tally), gsum_value=tally.total)
