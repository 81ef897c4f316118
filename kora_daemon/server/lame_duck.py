"""The last minute of a server: nobody new comes in, and its sessions are sent away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
import trio

from kora_daemon.server.hub import Hub

log = structlog.get_logger("kora.server")


async def send_away(hub: Hub, scopes: Mapping[Any, trio.CancelScope], grace_s: float, spread_s: float) -> None:
    """Let the sessions finish, one after the other over at most `spread_s`, and half of `grace_s`.

    Those that are not done within `grace_s` are cut off by their cancel scopes.
    """
    with trio.move_on_after(grace_s):
        await hub.drain(min(spread_s, grace_s / 2))
        return
    log.warning("server.sessions_cut_off", sessions=len(hub))
    with trio.move_on_after(grace_s):
        for scope in list(scopes.values()):
            scope.cancel()
        await hub.drain()
