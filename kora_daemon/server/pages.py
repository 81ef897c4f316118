"""Pages for sessions: from memory where that can say what they see, else from the store."""

from __future__ import annotations

import trio

from kora_daemon.model.delivery import Page
from kora_daemon.protocol.delivery import LogSpan, Read
from kora_daemon.protocol.moves import Phase
from kora_daemon.protocol.session import Session
from kora_daemon.server.hub import Hub
from kora_daemon.server.services import Services

QUICK_ENTRIES = 50
"""Are filtered without letting others have their turn first."""


def page_at_once(hub: Hub, session: Session, read: Read) -> Page | None:
    """A page that takes no time, None where it would."""
    is_quick = session.view.unrestricted or (isinstance(read, LogSpan) and read.upto - read.after <= QUICK_ENTRIES)
    return _page_of_tail(hub, session, read) if is_quick else None


async def page_of(services: Services, session: Session, read: Read, nursery: trio.Nursery | None) -> Page:
    """A page, after others had their turn; the next one is read in a task of the nursery. Raises StoreError."""
    await trio.lowlevel.checkpoint()
    page = _page_of_tail(services.hub, session, read)
    return page or await services.read_ahead.page(session.number, read, session.view, nursery)


def _page_of_tail(hub: Hub, session: Session, read: Read) -> Page | None:
    # What is in memory says what records were a moment ago, which is right for what is new only.
    is_new = session.phase is Phase.STREAMING
    if not isinstance(read, LogSpan) or not (is_new or session.view.unrestricted):
        return None
    return hub.tail.page(session.view, read.after, read.upto)
