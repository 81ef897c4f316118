"""Everything about a running daemon that one look should tell (config.md, "HTTP surface")."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import trio

from kora_daemon.http.access import Role
from kora_daemon.http.messages import Request, Response, json_response
from kora_daemon.http.routes import Route
from kora_daemon.server.clock import wall_ms
from kora_daemon.server.measures import Measures, Tally
from kora_daemon.server.oversight import SessionState
from kora_daemon.server.process import process_state
from kora_daemon.server.sync_server import SyncServer
from kora_daemon.version import VERSION

KEPT_S: Final = 1.0
SLOWEST: Final = 10

Json = dict[str, Any]


class StatusBoard:
    """The status of a server, made at most once a second for all who look."""

    def __init__(self, server: SyncServer) -> None:
        self._server = server
        self._made_at = -math.inf
        self._status: Json = {}

    async def status(self) -> Json:
        """The status, as of a second ago at most."""
        if trio.current_time() - self._made_at >= KEPT_S:
            self._status = await status_of(self._server)
            self._made_at = trio.current_time()
        return self._status


def status_route(board: StatusBoard) -> Route:
    """`/__kora/status`."""

    async def answer(_request: Request) -> Response:
        return json_response(200, await board.status())

    return Route("/__kora/status", ("GET",), answer, Role.ADMIN)


async def status_of(server: SyncServer) -> Json:
    """The status now. Times in seconds, sizes in bytes."""
    oversight, measures, known = server.oversight, server.measures, server.get_status()
    waiting_operations, waiting_bytes = server.writer.waiting
    sessions = await oversight.sessions()
    store_bytes = await oversight.store_bytes()
    return {
        "version": VERSION,
        "nodeId": known.node_id,
        "uptime": known.uptime_s,
        "timestamp": wall_ms(),
        "draining": server.draining,
        "store": {
            "kind": server.store_kind,
            "failure": known.store_failure,
            "bytes": store_bytes,
            "outages": measures.outages,
        },
        "log": {
            "frontier": known.frontier,
            "operations": known.total_operations,
            "lastMinute": oversight.growth(60.0),
            "lastHour": oversight.growth(3_600.0),
        },
        "sessions": _sessions(sessions),
        "totals": totals(measures),
        "latency": {
            "writeToAck": _tally(measures.write_to_ack),
            "writeToDeliver": _tally(measures.write_to_deliver),
            "commit": _tally(measures.commit_seconds),
            "firstSync": _tally(measures.first_sync_seconds),
        },
        "writer": {
            "waitingOperations": waiting_operations,
            "waitingBytes": waiting_bytes,
            "lastCommit": {"operations": measures.last_commit_operations, "seconds": measures.last_commit_s},
        },
        "limits": _limits(server),
        "process": _process(measures),
    }


def _sessions(sessions: Sequence[SessionState]) -> Json:
    behind = [one for one in sessions if one.lag or one.buffered_bytes]
    return {
        "total": len(sessions),
        "unauthenticated": sum(not one.is_authenticated for one in sessions),
        "byPhase": dict(Counter(one.phase for one in sessions)),
        "byTransport": dict(Counter(one.transport for one in sessions)),
        "slowest": [
            session_json(one) for one in heapq.nlargest(SLOWEST, behind, key=lambda one: (one.lag, one.buffered_bytes))
        ],
    }


def session_json(state: SessionState) -> Json:
    """One session."""
    return {
        "session": state.number,
        "node": state.node,
        "user": state.user,
        "address": state.address,
        "transport": state.transport,
        "phase": state.phase,
        "age": round(state.age_s, 3),
        "lag": state.lag,
        "bufferedBytes": state.buffered_bytes,
    }


def totals(measures: Measures) -> Json:
    """What was done since the start."""
    return {
        "uploadedOperations": measures.uploaded_operations,
        "uploadedBytes": measures.uploaded_bytes,
        "deliveredOperations": measures.delivered_operations,
        "deliveredBytes": measures.delivered_bytes,
        "rejections": dict(measures.rejections.by_name),
        "errors": dict(measures.errors.by_name),
        "closes": dict(measures.closes.by_name),
        "auth": dict(measures.auth.by_name),
        "connections": {transport: dict(counts.by_name) for transport, counts in measures.connections.items()},
        "droppedPresence": measures.dropped_presence,
        "unheardMessages": measures.unheard_messages,
    }


def _tally(tally: Tally) -> Json:
    """How many values were at most so large; those above all bounds are in the count only."""
    return {
        "count": tally.count,
        "sum": tally.total,
        "buckets": [[bound, count] for bound, count in tally.cumulative() if bound != math.inf],
    }


def _limits(server: SyncServer) -> Json:
    options = server.options
    return {
        "maxConnections": options.max_connections,
        "maxUnauthenticated": options.max_unauthenticated,
        "maxUnauthenticatedPerAddress": options.max_unauthenticated_per_address,
        "maxOperationBytes": options.uploads.max_operation_bytes,
        "maxOperationsPerBatch": options.uploads.max_operations_per_batch,
        "maxOperationsPerMinute": options.uploads.max_operations_per_minute,
        "maxMessageBytes": options.polling.max_message_bytes,
        "maxBufferedBytes": options.polling.max_buffered_bytes,
        "maxAwarenessBytes": options.max_awareness_bytes,
        "batchSize": options.batch_size,
        "handshakeTimeout": options.handshake_timeout,
        "pingInterval": options.ping_interval,
        "pollHold": options.polling.hold_s,
        "pollIdle": options.polling.idle_s,
        "maxPollingSessions": options.polling.max_sessions,
    }


def _process(measures: Measures) -> Json:
    state = process_state()
    return {
        "rssBytes": state.rss_bytes,
        "cpuSeconds": state.cpu_s,
        "descriptors": state.descriptors,
        "maxDescriptors": state.max_descriptors,
        "threads": state.threads,
        "loopLag": measures.last_loop_lag_s,
    }
