"""`[auth]` and its tables (auth.md section 6)."""

# ruff: noqa: RUF009  what key() and its kin make is the field itself, no default shared between instances

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kora_daemon.config import formats
from kora_daemon.config.keys import key, optional, optional_table, required, tables
from kora_daemon.config.kinds import MOST_SECONDS, choice, flag, list_of, number, one_or_more, table_of, text

ScopeMap = Mapping[str, Mapping[str, formats.Scalar]]

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SYMMETRIC = ("HS256", "HS384", "HS512")


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """`[auth.jwt]`: tokens that somebody else issues."""

    algorithms: tuple[str, ...] = required(
        list_of(choice(*ASYMMETRIC, *SYMMETRIC), "a list of algorithms, such as RS256 or ES256", least=1),
        ["RS256", "ES256"],
        "Signature algorithms that are accepted; HS* and the others can't be mixed.",
    )
    jwks_file: Path | None = optional(
        formats.file_to_read(), "jwks.json", "Key set. Exactly one of the five sources of keys."
    )
    jwks_url: str | None = optional(
        formats.url("https"),
        "https://id.example.org/jwks",
        "URL of the key set; refreshed on an unknown kid.",
        secret=True,
    )
    public_key_file: Path | None = optional(formats.file_to_read(), "public.pem", "Public key (PEM).")
    secret: str | None = optional(text(), "${JWT_SECRET}", "Shared secret of HS* algorithms.", secret=True)
    secret_file: Path | None = optional(formats.file_to_read(), "jwt-secret.txt", "File with the shared secret.")
    issuer: tuple[str, ...] | None = optional(
        one_or_more(text(), "a text or a list of texts"),
        "https://id.example.org",
        "Accepted iss, a text or a list; without it not checked.",
    )
    audience: tuple[str, ...] | None = optional(
        one_or_more(text(), "a text or a list of texts"),
        ["kora"],
        "Accepted aud, a text or a list; without it not checked.",
    )
    leeway: float = key(number(0, 3600), 5.0, "Seconds of tolerance for exp and nbf.")
    require_exp: bool = key(flag(), True, "Whether a token must expire.")
    user_claim: str = key(
        text(), "sub", "Claim with the user id: a dotted path, or a JSON pointer when it starts with /."
    )
    metadata: Mapping[str, str] | None = optional(
        formats.claim_paths(),
        {"email": "email", "org": "org.slug"},
        "Name -> path of the claim that is kept beside the user id.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KoraAuthSettings:
    """`[auth.kora]`: the users of an existing @korajs/auth server."""

    secret: tuple[str, ...] | None = optional(
        one_or_more(formats.secret_of(32), "a text of 32 or more characters, or a list of such texts", comma=False),
        "${KORA_AUTH_SECRET}",
        "Signing secret, or a list of them, newest first. This or secret_file.",
        secret=True,
    )
    secret_file: Path | None = optional(
        formats.file_to_read(), "auth-secrets.txt", "File with the secrets, one per line."
    )
    database: str = required(
        formats.user_database(),
        "postgresql://kora@localhost/app",
        'The user tables: a PostgreSQL URL or "sqlite:auth.db"; "" = trust the signature alone.',
        secret=True,
    )
    check_device: bool = key(flag(), True, "Whether a revoked device is refused.")
    touch_interval: float = key(
        number(0, MOST_SECONDS), 60.0, "Seconds between stamps of a device's last_seen_at; 0 = on every login."
    )
    revocation_list: Path | None = optional(
        formats.file_to_read(),
        "revoked.txt",
        "File of revoked token and device ids, one per line; read again when it changes.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticTokenSettings:
    """`[[auth.tokens]]`: one token and who it stands for."""

    token: str | None = optional(text(), "${ADMIN_TOKEN}", "The token. This or sha256.", secret=True)
    sha256: str | None = optional(
        formats.sha256(),
        "0" * 64,
        "Hex digest of the token.",
        secret=True,
    )
    user: str = required(text(), "admin", "The user id.")
    scopes: ScopeMap | None = optional(
        formats.scopes(),
        {"invoices": {"tenant": "t1"}},
        "Collection -> field -> value: what the user may see and write.",
    )
    unscoped: bool = key(flag(), False, "A token without scopes must say so: it may see and write everything.")
    metadata: Mapping[str, Any] | None = optional(
        table_of(formats.anything(), "a table"), {"plan": "pro"}, "Kept beside the user id; never sent to devices."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSettings:
    """`[[auth.grants]]`: other scopes for users with certain claims; the first that matches replaces auth.scopes."""

    when: Mapping[str, Any] = required(
        table_of(formats.claim_match(), "a table of claim paths, each with a value or a list of values"),
        {"role": ["viewer", "guest"]},
        "Claim path -> value, or a list of values; all must match.",
    )
    scopes: ScopeMap = required(formats.scopes(), {"todos": {"orgId": "{org.id}"}}, "As auth.scopes.")
    readonly: bool = key(flag(), False, "Whether these users may only read.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnonymousSettings:
    """`[auth.anonymous]`: visitors who are not signed in."""

    scopes: ScopeMap = required(
        formats.scopes(),
        {"responses": {}, "forms": {"status": "published"}},
        "What they may see and write; may be empty.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """`[auth]`: who may connect. Times in seconds."""

    kind: str = key(
        choice("none", "token", "mixed", "kora"),
        "none",
        '"none": everybody is the same anonymous user; "token": as auth.source says; "kora": users of @korajs/auth; '
        '"mixed": visitors beside users of auth.primary.',
    )
    source: str | None = optional(
        choice("jwt", "static", "python", "http", "command"), "static", 'Who judges the tokens of kind "token".'
    )
    primary: str | None = optional(choice("kora", "token"), "kora", 'Kind of the signed-in users of kind "mixed".')
    on_invalid_token: str = key(choice("reject", "anonymous"), "reject", 'What kind "mixed" does with a bad token.')
    anonymous_prefix: str = key(text(), "anon", 'Beginning of the user ids of visitors of kind "mixed".')
    revalidate: float = key(
        number(0, MOST_SECONDS), 30.0, "Seconds between re-checks of live sessions; 0 = only at SIGHUP."
    )
    on_expiry: str = key(choice("keep", "close"), "keep", "What becomes of a live session when its token expires.")
    refusal_delay: float = key(
        number(0, 30), 1.0, "Seconds before a refusal is answered; doubles per address and token, up to 30."
    )
    allow_query_token: bool = key(flag(), False, "Whether ?token= of the URL counts when the handshake has no token.")
    shared_data: bool = key(flag(), False, "Says that signed-in users share all data, on purpose: no scopes.")
    require_scopes: bool = key(
        flag(), False, "Whether a user for whom your own code names no scopes is refused, and not unrestricted."
    )
    accepted_scope: str = key(
        choice("full", "collections", "none"),
        "full",
        'What devices are told of their scopes. "full": all; "collections": names alone; "none": nothing, to those who '
        "ask for nothing. But for the first, records that change hands bring their history along.",
        live=False,
    )
    node_binding: str = key(
        choice("warn", "enforce"),
        "warn",
        "What becomes of operations in the name of somebody else's device: logged, or refused.",
    )
    node_handover: bool = key(
        flag(), True, "Whether whoever has a token may use the device that it was given to: a browser may be shared."
    )
    python: str | None = optional(
        formats.hook(), "myapp.auth:authenticate", 'Callable of source "python": token -> answer.'
    )
    url: str | None = optional(
        formats.url("http", "https"),
        "http://127.0.0.1:9000/kora-auth",
        'Address that source "http" asks (POST).',
        secret=True,
    )
    headers: Mapping[str, str] | None = optional(
        table_of(text(), "a table of names with their texts"),
        {"Authorization": "Bearer ${HOOK_TOKEN}"},
        'Headers of the requests of source "http".',
        secret=True,
    )
    command: tuple[str, ...] | None = optional(
        list_of(text(), "a list of texts, the program first", least=1),
        ["/usr/local/bin/kora-auth"],
        'Long-running child of source "command": one JSON object per line in and out.',
    )
    timeout: float = key(number(0, 300, above=True), 5.0, "Seconds for a hook to answer.")
    cache: float = key(number(0, MOST_SECONDS), 30.0, 'Seconds that an answer of source "http" is remembered.')
    python_scopes: str | None = optional(
        formats.hook(), "myapp.auth:scopes", "Callable that replaces auth.scopes: user id and claims -> scopes."
    )
    scopes: ScopeMap | None = optional(
        formats.scopes(),
        {"todos": {"userId": "{sub}"}, "settings": {}},
        "Collection -> field -> template over the claims: what signed-in users may see and write.",
    )
    scopes_from_schema: bool = key(
        flag(),
        False,
        "Whether the scope lists and sync rules of the schema take the place of auth.scopes, with values from the "
        "claims; without its value a collection is hidden.",
    )
    jwt: JwtSettings | None = optional_table(JwtSettings, "Tokens that somebody else issues.")
    kora: KoraAuthSettings | None = optional_table(KoraAuthSettings, "The users of an existing @korajs/auth server.")
    anonymous: AnonymousSettings | None = optional_table(AnonymousSettings, "Visitors who are not signed in.")
    grants: tuple[GrantSettings, ...] = tables(
        GrantSettings, "Other scopes for users with certain claims; the first that matches replaces auth.scopes."
    )
    tokens: tuple[StaticTokenSettings, ...] = tables(StaticTokenSettings, 'The tokens of source "static".')
