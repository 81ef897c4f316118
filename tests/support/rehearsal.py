"""One session on stage: the test says what happens, and reads what the session wants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

from kora_daemon.model.delivery import DeliveryBatch, DeliveryEntry, Page
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol import messages as say
from kora_daemon.protocol.delivery import LogSpan
from kora_daemon.protocol.resume import start_of
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.protocol.session import Session
from tests.support.operations import NOON_MS

A = TypeVar("A", bound=do.Action)
SERVER = "server-node"


class Rehearsal:
    """A session, and a clock that stands still unless `pass_time` is called.

    `actions` is everything that the session has wanted so far.
    """

    def __init__(self, rules: SessionRules | None = None, number: int = 1) -> None:
        ids = itertools.count(1)
        self.wall_ms, self.elapsed_ms = NOON_MS, 1_000
        self.session = Session(number, rules or SessionRules(SERVER), self.now, lambda: f"s-{next(ids)}")
        self.actions: list[do.Action] = []

    @property
    def now(self) -> on.Moment:
        return on.Moment(self.wall_ms, self.elapsed_ms)

    def pass_time(self, ms: int) -> None:
        self.wall_ms += ms
        self.elapsed_ms += ms

    def take(self, event: on.AnyEvent) -> list[do.Action]:
        """Hand in an event; what the session wants in return."""
        wanted = self.session.step(event, self.now)
        self.actions += wanted
        return wanted

    def greet(self, frontier: int = 0, vector: dict[str, int] | None = None, **handshake: Any) -> list[do.Action]:
        """Go through a handshake that is accepted, up to the first read of the log; what was wanted for its answer."""
        delta = handshake.pop("delta", ())
        self.take(handshake_of(**handshake))
        [asked] = of_kind(do.ReadLog, self.take(on.Authenticated("user")))
        start = start_of(asked, frontier, 0, None)
        return self.take(on.LogRead(frontier, vector or {}, delta, start=start))

    def greet_as_old_client(self, frontier: int = 0, delta: Sequence[int] = (), **handshake: Any) -> list[do.Action]:
        """The same for a client without a watermark."""
        return self.greet(frontier, last_delivery_sequence=None, delta=delta, **handshake)

    def show(
        self, entries: Sequence[DeliveryEntry], upto: int | None = None, apart: Sequence[int] = ()
    ) -> list[DeliveryBatch]:
        """Answer the open read with a page of these entries, whole unless it ends at `upto`; what is sent of it."""
        read = self.reads[-1].read
        after, end = (read.after, read.upto) if isinstance(read, LogSpan) else (0, 0)
        page = Page.of(after, end if upto is None else upto, list(entries), apart)
        return [action.batch for action in of_kind(do.Deliver, self.take(on.PageRead(page)))]

    @property
    def reads(self) -> list[do.ReadPage]:
        return of_kind(do.ReadPage, self.actions)

    @property
    def closes(self) -> list[do.Close]:
        return of_kind(do.Close, self.actions)


def handshake_of(node_id: str = "node-a", **members: Any) -> say.Handshake:
    """A handshake of a current client that has nothing yet."""
    named: dict[str, Any] = {"version_vector": {}, "schema_version": 1, "last_delivery_sequence": 0}
    return say.Handshake("h-1", node_id, **(named | members))


def of_kind(kind: type[A], actions: Sequence[do.Action]) -> list[A]:
    """The actions of one kind, in order."""
    return [action for action in actions if isinstance(action, kind)]


def said(actions: Sequence[do.Action]) -> list[say.Message]:
    """The messages sent, in order."""
    return [action.message for action in of_kind(do.Send, actions)]
