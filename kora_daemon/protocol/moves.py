"""Where a session stands, and what may happen to it there (wire.md section 3)."""

from __future__ import annotations

import enum
from typing import Any

from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say


class Phase(enum.Enum):
    """Where a session stands."""

    CONNECTED = enum.auto()
    AUTHENTICATING = enum.auto()
    AUTHENTICATED = enum.auto()
    SYNCING = enum.auto()
    STREAMING = enum.auto()
    CLOSED = enum.auto()


_OPEN: dict[type[Any], str] = {
    say.Handshake: "_repeated_handshake",
    say.OperationBatch: "_upload",
    say.Acknowledgment: "_acknowledged",
    say.AwarenessUpdate: "_share",
    say.DocumentUpdate: "_share",
    say.BlobRequest: "_share",
    say.BlobResponse: "_share",
    say.BlobPush: "_share",
    say.ErrorMessage: "_ignore",
    on.Unknown: "_ignore",
    on.Malformed: "_malformed",
    on.PageRead: "_page_read",
    on.Committed: "_committed",
    on.StoreFailed: "_store_failed",
    on.Revoked: "_authentication_refused",
    on.Renewal: "_renew",
    on.FrontierMoved: "_frontier_moved",
    on.Tick: "_time_passed",
    on.Draining: "_drain",
}

LEGAL: dict[Phase, dict[type[Any], str]] = {
    Phase.CONNECTED: {
        say.Handshake: "_handshake",
        on.Malformed: "_malformed",
        on.Revoked: "_ignore",
        on.Renewal: "_ignore",
        on.FrontierMoved: "_ignore",
        on.Tick: "_give_up_on_handshake",
        on.Draining: "_drain",
    },
    Phase.AUTHENTICATING: {
        on.Authenticated: "_authenticated",
        on.AuthenticationRefused: "_authentication_refused",
        on.AuthenticationUnavailable: "_authentication_unavailable",
        on.Revoked: "_ignore",
        on.Renewal: "_ignore",
        on.FrontierMoved: "_ignore",
        on.Tick: "_ignore",
        on.Draining: "_drain",
    },
    Phase.AUTHENTICATED: {
        on.LogRead: "_log_read",
        on.StoreFailed: "_store_failed",
        on.Revoked: "_authentication_refused",
        on.Renewal: "_renew",
        on.FrontierMoved: "_ignore",
        on.Tick: "_ignore",
        on.Draining: "_drain",
    },
    Phase.SYNCING: _OPEN,
    Phase.STREAMING: _OPEN,
    Phase.CLOSED: {},
}

AUTHENTICATED = (Phase.AUTHENTICATED, Phase.SYNCING, Phase.STREAMING)
"""It is known who the peer is."""

ANSWERING = (Phase.AUTHENTICATING, Phase.AUTHENTICATED)
"""The handshake waits for its answer."""
