"""Where a delivery stream begins, and what is to be remembered for the next one (scopes.md section 7).

A client goes on from its watermark as long as it sees the same part of the same log. Otherwise it has to start over,
and the only way to make it is to announce less than its watermark.

Stock clients have a watermark for every view, by what they were told of their scope and by their live queries. One that
had to begin anew in a view has to in all others, too, whenever it comes back to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from kora_daemon.model.node import NodeMemory, NodeNews
from kora_daemon.model.view import View, scope_fingerprint
from kora_daemon.protocol.actions import ReadLog
from kora_daemon.protocol.events import LogRead

MAX_VIEWS = 64
"""Remembered of a device, as many as stock clients remember themselves; in a forgotten one it begins anew."""


def start_of(asked: ReadLog, frontier: int, floor: int, memory: NodeMemory | None) -> int:
    """The delivery sequence behind which the stream begins: the client's watermark, or 0.

    `frontier` and `floor` are those of the log, see `Store`.
    """
    watermark = asked.watermark or 0
    if watermark > frontier:
        return 0  # the log was rolled back
    if watermark < floor and (memory is None or memory.floor != floor):
        return 0  # of a log that this one has taken the place of
    if memory is None or memory.scope is None:
        return watermark if asked.as_asked else 0
    return watermark if memory.scope == scope_digest(asked.view) and _has_begun(asked.view, memory) else 0


def announced(watermark: int, start: int, frontier: int) -> int:
    """How far the log reaches, as a client is told: less than its watermark when it has to start over."""
    return frontier if start == watermark or watermark > frontier else 0


def misses_own(node_id: str, held: Mapping[str, int], log: LogRead) -> bool:
    """Whether a client that goes on from its watermark may lack operations of its own, by the vector of what it holds.

    A device that has lost its store gets them from 0 on. If that download breaks off, it goes on behind 0. A client
    that names nobody has nothing to tell.
    """
    return bool(held) and held.get(node_id, 0) < log.own


def stream_news(node_id: str, view: View, watermark: int, log: LogRead) -> NodeNews | None:
    """What to remember once the client has taken something of the stream; None when all is as remembered.

    Of a device that sees everything nothing is kept, unless it has to begin anew.
    """
    remembered, start, floor = log.memory or NodeMemory(), log.start, log.floor
    digest = scope_digest(view)
    is_same = remembered.scope == digest and remembered.floor == floor
    if is_same and _has_begun(view, remembered):
        return None
    if remembered.scope is None and not digest and start == watermark and (not floor or start >= floor):
        return None
    if start == watermark and (remembered.scope is None or (is_same and remembered.views is None)):
        return NodeNews(node_id, scope=digest, floor=floor)
    begun = remembered.views.split(",")[1 - MAX_VIEWS :] if is_same and remembered.views is not None else []
    return NodeNews(node_id, scope=digest, floor=floor, views=",".join([*begun, view_digest(view)]))


def _has_begun(view: View, memory: NodeMemory) -> bool:
    return memory.views is None or view_digest(view) in memory.views.split(",")


def scope_digest(view: View) -> str:
    """Tells scopes apart; "" for none."""
    return _digest(scope_fingerprint(view.scopes))


def view_digest(view: View) -> str:
    """Tells views apart; "" for the one that shows everything."""
    return _digest(view.key)


def _digest(text: str) -> str:
    return text and hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
