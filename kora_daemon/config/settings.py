"""Settings: the tables of the file as frozen dataclasses (config.md). Each field is also the declaration of its key."""

# ruff: noqa: RUF009  what key() and its kin make is the field itself, no default shared between instances

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kora_daemon.config import formats
from kora_daemon.config.app import RouteSettings, StaticSettings, ValidateSettings
from kora_daemon.config.auth import AuthSettings
from kora_daemon.config.keys import key, optional, optional_table, table, tables
from kora_daemon.config.kinds import (
    MOST_BYTES,
    MOST_INTEGER,
    MOST_SECONDS,
    choice,
    flag,
    integer,
    list_of,
    number,
    one_or_more,
    text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`: where devices connect."""

    host: tuple[str, ...] = key(
        one_or_more(formats.host(), "an address or host name, or a list of them"),
        ("0.0.0.0",),  # noqa: S104  the contract's default
        "Address to listen on, or a list of them: IPv4, IPv6, host names. Sockets that systemd hands over go first.",
        live=False,
    )
    port: int = key(integer(0, 65535), 4567, "TCP port; 0 = any free one, logged and printed on start.", live=False)
    path: str = key(
        formats.http_path(),
        "/",
        "Path of the WebSocket and HTTP long-poll endpoint; other paths serve the HTTP surface.",
        live=False,
    )
    max_connections: int = key(integer(0), 0, "How many devices may be connected at once; 0 = unlimited.")
    batch_size: int = key(integer(1, 100_000), 100, "Operations per server-to-client batch.")
    schema_version: int | None = optional(
        integer(1, MOST_INTEGER), 1, "Version of the app's schema; without it the schema file's version, else 1."
    )
    supported_schema_versions: tuple[int, ...] | None = optional(
        list_of(
            integer(1, MOST_INTEGER), "a list of two whole numbers from 1 up, the lower one first", least=2, most=2
        ),
        [1, 1],
        "Lowest and highest schema version of a device that may connect; without it, schema_version alone.",
    )
    reuse_port: bool = key(
        flag(),
        False,
        "Whether several daemons on one host share the port (SO_REUSEPORT); PostgreSQL store only. WebSockets alone: "
        "devices that poll over HTTP need a load balancer that keeps each of them with one daemon.",
        live=False,
    )
    tls_certificate: Path | None = optional(
        formats.file_to_read(),
        "cert.pem",
        "PEM file of the certificate chain; with it and tls_key, devices connect by wss://.",
    )
    tls_key: Path | None = optional(formats.file_to_read(), "key.pem", "PEM file of the certificate's private key.")
    trusted_proxies: tuple[formats.Network, ...] = key(
        list_of(formats.network(), "a list of addresses and networks"),
        (),
        "Addresses or networks of proxies whose X-Forwarded-For is believed.",
    )
    compression: bool = key(
        flag(), True, "Whether messages are compressed for devices that offer it (permessage-deflate, browsers do)."
    )
    compression_min_bytes: int = key(
        integer(64, MOST_BYTES), 1024, "Messages of fewer bytes are sent as they are: compressing them does not pay."
    )
    allowed_origins: tuple[str, ...] = key(
        list_of(formats.origin(), "a list of origins"),
        (),
        "Origins of web pages that may connect besides those of the daemon's own host, over HTTP and by WebSocket; "
        '"*" = any. Empty: any by WebSocket, none over HTTP.',
    )
    shutdown_grace: float = key(number(0, MOST_SECONDS), 10.0, "Seconds to drain sessions on SIGTERM.")
    shutdown_spread: float = key(
        number(0, MOST_SECONDS),
        5.0,
        "Seconds of these over which sessions are closed at most, so that many devices don't come back all at once; up "
        "to half of shutdown_grace. A few are closed at once.",
    )

    def schema_versions(self, of_schema: int = 1) -> tuple[int, int, int]:
        """The schema version in force and the lowest and highest supported one; `of_schema` is the schema file's."""
        current = self.schema_version or of_schema
        low, high = self.supported_schema_versions or (current, current)
        return current, low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """`[limits]`: what one device may cost. Sizes in bytes, times in seconds."""

    max_message_bytes: int = key(
        integer(1024, MOST_BYTES), 33_554_432, "Largest message of a device, in bytes; above it, close 1009."
    )
    max_operation_bytes: int = key(integer(256, MOST_BYTES), 262_144, "Largest operation, in bytes of JSON.")
    max_operations_per_batch: int = key(integer(1, 1_000_000), 1000, "Most operations in one batch of a device.")
    max_operations_per_minute: int = key(
        integer(0, 1_000_000_000),
        6000,
        "Operations per minute and session in the long run (a token bucket with debt); 0 = unlimited.",
    )
    max_buffered_bytes: int = key(
        integer(2_097_152, MOST_BYTES),
        33_554_432,
        "Unsent bytes, the message that is on its way aside, at which a slow device is closed (4013); at least the "
        "sum of 2 MiB and 4/3 of max_operation_bytes.",
    )
    max_awareness_bytes: int = key(integer(64, MOST_BYTES), 16_384, "Largest awareness state, in bytes of JSON.")
    max_unauthenticated: int = key(
        integer(0), 1000, "Connections that are not signed in yet, or were refused, at a time; 0 = unlimited."
    )
    max_unauthenticated_per_address: int = key(
        integer(0), 100, "The same for one address; set server.trusted_proxies behind a proxy. 0 = unlimited."
    )
    handshake_timeout: float = key(
        number(0, MOST_SECONDS, above=True), 10.0, "Seconds for a new connection to send its handshake."
    )
    ping_interval: float = key(
        number(0, MOST_SECONDS, above=True), 25.0, "Seconds between pings; two missed pongs end a session."
    )
    poll_hold: float = key(
        number(0, 600), 25.0, "HTTP long-polling: seconds that a request is held while there is no message for it."
    )
    poll_idle: float = key(
        number(1, MOST_SECONDS), 120.0, "HTTP long-polling: seconds without a request after which a session is closed."
    )
    max_polling_sessions: int = key(integer(1), 10_000, "HTTP long-polling: sessions at a time.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """`[store]`: where operations are kept."""

    kind: str = key(
        choice("memory", "sqlite", "postgres"),
        "sqlite",
        '"sqlite": one file, nothing to install; "memory": gone with the process; "postgres": several daemons.',
    )
    path: Path = key(formats.file_to_write(), Path("kora.db"), "The SQLite file; made when it is not there.")
    url: str | None = optional(
        formats.postgres(),
        "postgresql://kora@localhost/kora",
        "PostgreSQL: a libpq URL or keyword string.",
        secret=True,
    )
    durability: str = key(
        choice("full", "normal"),
        "full",
        '"full": what is acknowledged survives power loss; "normal": it survives a crash of the process.',
    )
    readers: int = key(integer(1, 64), 4, "Connections that read beside the one that writes; each is a thread, too.")
    connect_timeout: float = key(
        number(0, MOST_SECONDS, above=True), 10.0, "PostgreSQL: seconds for a connection to be made."
    )
    statement_timeout: float = key(
        number(0, MOST_SECONDS, above=True), 30.0, "PostgreSQL: seconds for one statement to be answered."
    )
    application_name: str = key(text(), "kora-daemon", "PostgreSQL: what its own views call our connections.")
    outage_patience: float = key(
        number(0, 25),
        15.0,
        "Seconds that sessions wait for a store that does not answer, before they are closed; devices wait for 30.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """`[admin]`: bearer tokens of the operational endpoints; without admin_token they answer on loopback only."""

    admin_token: str | None = optional(
        formats.bearer_token(), "${KORA_ADMIN_TOKEN}", "Token for status, events and dashboard.", secret=True
    )
    metrics_token: str | None = optional(
        formats.bearer_token(), "${KORA_METRICS_TOKEN}", "Token for metrics; without it admin_token.", secret=True
    )
    backup_token: str | None = optional(
        formats.bearer_token(),
        "${KORA_BACKUP_TOKEN}",
        "Token for backup export and import; without it admin_token.",
        secret=True,
    )
    data_token: str | None = optional(
        formats.bearer_token(), "${KORA_DATA_TOKEN}", "Token for the data API; without it that API is off.", secret=True
    )
    max_import_bytes: int = key(
        integer(1, 2**40),
        2**32,
        "Largest backup that is taken in over HTTP, in bytes; until it is verified it waits beside the SQLite file, "
        "or, with another store, where temporary files are.",
        live=False,
    )
    socket: Path | Literal[False] | None = optional(
        formats.socket_path(),
        "kora.sock",
        "Unix socket for commands on this host, which need no token; only the daemon's own user can open it. Without "
        'it, kora.sock beside the SQLite file, with another store beside this file; "" = none.',
        live=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """`[records]`: what the server does with the records of the schema."""

    cascade_levels: int = key(
        integer(1, 100),
        1,
        "How far down a delete goes on through relations with onDelete = cascade; 1 = to the records that point at it.",
    )
    max_bytes: int = key(
        integer(1024, MOST_BYTES),
        1_048_576,
        "Largest record, in bytes of JSON; no update makes one larger. At least limits.max_operation_bytes counts.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AwarenessSettings:
    """`[awareness]`: who sees whose presence."""

    group_by: tuple[str, ...] = key(
        list_of(text(), "a list of scope fields"),
        (),
        "Scope fields whose values make up a group that shares presence; empty = sessions with equal scopes.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`: what the daemon writes to stderr."""

    level: str = key(choice("debug", "info", "warning", "error"), "info", "Least level that is written.")
    format: str = key(
        choice("auto", "console", "json"),
        "auto",
        '"auto": console on a terminal, JSON lines otherwise; or one of the two.',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobSettings:
    """`[blobs]`: where file contents are kept."""

    kind: str = key(
        choice("none", "directory", "store"),
        "none",
        '"none": relayed between devices only; "directory": kept in a folder; "store": in PostgreSQL, beside the log.',
    )
    path: Path = key(formats.file_to_write(), Path("blobs"), 'The folder of blobs.kind = "directory".')
    max_bytes: int = key(
        integer(0, MOST_INTEGER), 0, "Most bytes to keep; what comes when there is no room is dropped. 0 = unlimited."
    )
    max_blob_bytes: int = key(
        integer(1024, MOST_BYTES),
        8_388_608,
        "Largest blob of a device to keep, in bytes. Stock clients send files in parts of 262144.",
    )
    max_unused_bytes: int = key(
        integer(0, MOST_INTEGER),
        4_294_967_296,
        "Bytes that a user may have uploaded before a record refers to them: no less than the largest file. "
        "0 = unlimited.",
    )
    keep_free_bytes: int = key(
        integer(0, MOST_INTEGER),
        1_073_741_824,
        "Bytes of the disk that blobs in a folder leave to others, the log among them.",
    )
    gc_grace_days: float = key(
        number(0, 36_500), 7.0, "Days that `kora blobs gc` keeps what no record refers to any more."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. `Settings()` is the configuration without a file; its paths start in the working folder.

    `source` is the file it was read from. `origins` tells, by path of the key, where each value that is not a default
    came from: the file's name or an environment variable's.
    """

    schema: Path | None = optional(
        formats.file_to_read(),
        "schema.json",
        "The app's schema, JSON or TOML; without it the log alone is kept (log-only mode).",
    )
    server: ServerSettings = table(ServerSettings, "Where devices connect.", live=True)
    limits: LimitSettings = table(LimitSettings, "What one device may cost.", live=True)
    store: StoreSettings = table(StoreSettings, "Where operations are kept.")
    auth: AuthSettings = table(AuthSettings, "Who may connect.", live=True)
    admin: AdminSettings = table(
        AdminSettings,
        "Bearer tokens of the operational endpoints; without admin_token they answer on loopback only.",
        live=True,
    )
    static: StaticSettings | None = optional_table(StaticSettings, "A built app, served beside sync.")
    routes: tuple[RouteSettings, ...] = tables(RouteSettings, "Your own HTTP endpoints.")
    records: RecordSettings = table(RecordSettings, "What the server does with the records of the schema.")
    validate: ValidateSettings | None = optional_table(ValidateSettings, "Your own judgement on incoming operations.")
    awareness: AwarenessSettings = table(AwarenessSettings, "Who sees whose presence.")
    log: LogSettings = table(LogSettings, "What the daemon writes to stderr.", live=True)
    blobs: BlobSettings = table(BlobSettings, "Where file contents are kept.")

    source: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def control_socket(self) -> Path | None:
        """Where the daemon can be reached on this host, None for nowhere."""
        if self.admin.socket is None:
            beside = self.store.path if self.store.kind == "sqlite" else self.source or Path("kora.toml")
            return beside.with_name("kora.sock")
        return self.admin.socket or None
