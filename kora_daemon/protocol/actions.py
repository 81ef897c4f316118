"""What a session wants done. Whoever performs them answers with events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from kora_daemon.model.delivery import DeliveryBatch
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.view import View
from kora_daemon.protocol.delivery import Read
from kora_daemon.protocol.messages import Message

NORMAL = 1000
GOING_AWAY = 1001
INTERNAL_ERROR = 1011
AUTHENTICATION_FAILED = 4001
PROTOCOL_VIOLATION = 4002
HANDSHAKE_TIMEOUT = 4008
SLOW_CONSUMER = 4013
TOO_MANY_CONNECTIONS = 4029


class Action(Struct, gc=False):
    """Anything a session wants."""


class Send(Action):
    """Send a message to the peer."""

    message: Message


class Deliver(Action):
    """Send a planned batch, sharing its encoded form with other sessions."""

    batch: DeliveryBatch


class Authenticate(Action):
    """Ask the provider about a token; answered by one of the three authentication events."""

    token: Any
    node_id: str


class ReadLog(Action):
    """Read what the handshake's answer needs; answered by `LogRead` or `StoreFailed`.

    `known` is the client's version vector with its own node. Without a `watermark` it needs a causal delta above that
    vector, resumed at `cursor`. `as_asked`: the session's scopes are those that the client has asked for; `confined`:
    others' devices are not to be told of, since scopes were imposed on it.
    """

    node_id: str
    known: Mapping[str, int]
    watermark: int | None
    cursor: str | None = None
    view: View = View()
    as_asked: bool = True
    confined: bool = False


class ReadPage(Action):
    """Read a part of the log as the session's view shows it; answered by `PageRead` or `StoreFailed`."""

    read: Read


class Commit(Action):
    """Hand operations to the writer; answered, in order, by `Committed` or `StoreFailed`."""

    operations: Sequence[Operation]
    size_bytes: int


class Remember(Action):
    """Keep this about the device, durably; nobody waits for it."""

    news: NodeNews


class Share(Action):
    """Pass presence, a document update or blob traffic on to other sessions."""

    message: Message


class Joined(Action):
    """The session streams now: live traffic may reach it."""


class Close(Action):
    """End the connection; nothing is legal afterwards."""

    code: int
    reason: str
