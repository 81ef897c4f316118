"""From a session's uploads to the writer, and back with what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from kora_daemon.apply.authority import Authority
from kora_daemon.apply.pipeline import BatchOutcome
from kora_daemon.model.node import NodeNews
from kora_daemon.model.operation import Operation
from kora_daemon.model.outcome import Rejection
from kora_daemon.protocol import actions as do
from kora_daemon.protocol import events as on
from kora_daemon.protocol.session import Session
from kora_daemon.server.identity import Identity
from kora_daemon.server.ledger import Ledger
from kora_daemon.server.services import Services
from kora_daemon.server.write_requests import WriteRequest


class Submissions:
    """Hands in what one session uploads, in the name of who `identity` says it is; `happened` is told the outcome."""

    def __init__(
        self,
        session: Session,
        services: Services,
        ledger: Ledger,
        identity: Callable[[], Identity],
        happened: Callable[[on.Event], None],
    ) -> None:
        self._session = session
        self._services = services
        self._ledger = ledger
        self._identity = identity
        self._happened = happened

    def submit(self, batch: do.Commit, operations: Sequence[Operation], refused: Sequence[Rejection] = ()) -> None:
        """Hand in what is left of a batch, of which some was `refused` before."""
        received_at = trio.current_time()

        def written(outcome: BatchOutcome | None) -> None:
            if outcome is None:
                self._happened(on.StoreFailed())
                return
            self._ledger.saw_strangers(outcome.strangers)
            self._happened(on.Committed([*refused, *outcome.rejections]))
            self._ledger.acknowledged(received_at)

        number = self._session.number
        self._services.writer.submit(
            WriteRequest(operations, batch.size_bytes, number, written, self._authority, received_at=received_at)
        )

    def remember(self, news: NodeNews) -> None:
        """Have this kept of the device. Whether it was shows at the next handshake: else the device starts over."""
        keepsakes, number = self._services.keepsakes, self._session.number
        keepsakes.add(news.node_id)
        self._services.writer.submit(
            WriteRequest((), 0, number, lambda outcome: keepsakes.kept(news.node_id), self._authority, news)
        )

    @property
    def _authority(self) -> Authority:
        services, session = self._services, self._session
        return self._identity().authority(
            session.node_id, session.scopes, services.node_binding, handover=services.node_handover
        )
