"""What all connections of a server share, made from its stores and options."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.apply.pipeline import Pipeline
from kora_daemon.model.delivery import DeliveryEntry
from kora_daemon.protocol.rules import SessionRules
from kora_daemon.server.admission import Admission
from kora_daemon.server.blob_keeper import BlobKeeper
from kora_daemon.server.hub import Hub
from kora_daemon.server.identification import Identification
from kora_daemon.server.keepsakes import Keepsakes
from kora_daemon.server.ledger import Telemetry
from kora_daemon.server.lobby import Lobby
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.read_ahead import ReadAhead
from kora_daemon.server.readers import Readers
from kora_daemon.server.services import Services
from kora_daemon.server.side_channels import SideChannels
from kora_daemon.server.validation import Validation
from kora_daemon.server.writer import Writer
from kora_daemon.store.blobs.contract import BlobStore
from kora_daemon.store.contract import Store


class Foundations(Struct, frozen=True):
    """What a server has from its beginning to its end, whatever its options are."""

    store: Store
    blobs: BlobStore | None
    identification: Identification
    lobby: Lobby
    telemetry: Telemetry


def assemble(on: Foundations, options: ServerOptions, frontier: int) -> Services:
    """The services of a server whose log reaches `frontier`; its store is open."""
    schema = options.apply.schema
    collections = {} if schema is None else schema.collections
    known = {name: frozenset({*one.fields, "id"}) for name, one in collections.items()}
    scoped = {name: frozenset(one.scoped) for name, one in collections.items()}
    measures = on.telemetry.measures
    hub = Hub(frontier, known, measures)
    readers = Readers(on.store, options.reader_threads, scoped)
    pipeline = Pipeline(on.store.node_id, options.apply)
    writer = Writer(on.store, pipeline, DeliveryEntry.of, hub.publish, options.outage_patience, on.telemetry)
    writer.pulse.patience_s = options.store_patience
    keeper = None if on.blobs is None else BlobKeeper(on.blobs, on.store, scoped, options.blobs, measures.blobs)
    return Services(
        _rules(on, options),
        on.identification,
        _admission(on, options),
        on.lobby,
        writer,
        readers,
        ReadAhead(readers),
        hub,
        SideChannels(hub, readers, options.max_awareness_bytes, options.awareness_group_by, keeper, measures),
        options.ping_interval,
        on.telemetry,
        Keepsakes(),
        _validation(on, options, readers),
        options.node_binding,
        options.node_handover,
        options.outage_patience,
    )


def reassemble(on: Foundations, options: ServerOptions, services: Services) -> Services:
    """The same services by other options, for connections to come."""
    services.side.awareness.allow(options.max_awareness_bytes)
    return replace(
        services,
        rules=_rules(on, options),
        admission=_admission(on, options),
        validation=_validation(on, options, services.readers),
        ping_interval_s=options.ping_interval,
        node_binding=options.node_binding,
        node_handover=options.node_handover,
    )


def _validation(on: Foundations, options: ServerOptions, readers: Readers) -> Validation | None:
    if options.validator is None:
        return None
    return Validation(options.validator, on.store, readers, options.validator_timeout)


def _admission(on: Foundations, options: ServerOptions) -> Admission:
    return Admission(on.identification, options.refusal_delay, allow_query_token=options.allow_query_token)


def _rules(on: Foundations, options: ServerOptions) -> SessionRules:
    return SessionRules(
        on.store.node_id,
        options.schema_version,
        options.supported_schema_versions or (options.schema_version, options.schema_version),
        options.batch_size,
        options.uploads,
        int(options.handshake_timeout * 1000),
        options.accepted_scope,
        on.blobs is not None,
    )
