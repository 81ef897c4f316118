"""What all connections of a server share, and where one comes from."""

from __future__ import annotations

from msgspec import Struct

from kora_daemon.apply.authority import NodeBinding
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.server.admission import Admission
from kora_daemon.server.hub import Hub
from kora_daemon.server.identification import Identification
from kora_daemon.server.keepsakes import Keepsakes
from kora_daemon.server.ledger import Telemetry
from kora_daemon.server.lobby import Lobby
from kora_daemon.server.read_ahead import ReadAhead
from kora_daemon.server.readers import Readers
from kora_daemon.server.side_channels import SideChannels
from kora_daemon.server.validation import Validation
from kora_daemon.server.writer import Writer


class Services(Struct, frozen=True):
    """What all connections of a server share."""

    rules: SessionRules
    identification: Identification
    admission: Admission
    lobby: Lobby
    writer: Writer
    readers: Readers
    read_ahead: ReadAhead
    hub: Hub
    side: SideChannels
    ping_interval_s: float
    telemetry: Telemetry
    keepsakes: Keepsakes
    validation: Validation | None = None
    node_binding: NodeBinding = "off"
    node_handover: bool = True
    patience_s: float = 0.0
    """How long a reader waits for a store that does not answer."""


class Origin(Struct, frozen=True):
    """Where a connection comes from: its address for logs and limits, and the token in its URL."""

    address: str = "local"
    query_token: str | None = None
