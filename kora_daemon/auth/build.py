"""From the settings to a provider. The one place that knows which kind is made of what."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kora_daemon.auth.claims import BadPath
from kora_daemon.auth.contract import AuthContext, AuthProvider, Caller, token_digest
from kora_daemon.auth.kora import KoraAuthProvider
from kora_daemon.auth.mixed import MixedAuthProvider
from kora_daemon.auth.none import NoAuthProvider
from kora_daemon.auth.scope_maps import read_only, spelled_out
from kora_daemon.auth.scoping import HookScoping, SchemaScoping, Scoping, TableScoping, Unrestricted
from kora_daemon.auth.sources import claim_paths, jwt_keys, jwt_rules, kora_secrets, revocation_list
from kora_daemon.auth.start_checks import scope_problems, user_table_problems
from kora_daemon.auth.templates import BadTemplate, Grant, parse_grant, parse_table
from kora_daemon.auth.token import HookProvider, StaticToken, StaticTokenProvider, about_token
from kora_daemon.auth.users import UserDirectory
from kora_daemon.config.auth import AuthSettings, GrantSettings, JwtSettings, KoraAuthSettings
from kora_daemon.errors import ConfigError
from kora_daemon.hooks import load_hook
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap

if TYPE_CHECKING:
    from kora_daemon.auth.key_sets import KeySource


def build_provider(
    settings: AuthSettings,
    *,
    schema: Schema | None = None,
    folder: Path | None = None,
    users: UserDirectory | None = None,
    key_sets: MutableMapping[str, KeySource] | None = None,
) -> AuthProvider:
    """The provider that the settings name. Raises ConfigError with everything that is wrong.

    `folder` is where modules of hooks are looked for first, `users` the user tables that `auth.kora.database` names.
    `key_sets` are those that an earlier provider has fetched, by URL: it is good to have them when the issuer is down.
    Reads files, imports hooks and looks at the user tables, so it blocks; asks no issuer and no service.
    """
    if problems := scope_problems(settings, schema):
        raise ConfigError(problems)
    builder = _Builder(settings, schema, folder or Path.cwd(), users, {} if key_sets is None else key_sets)
    if settings.kind != "mixed":
        return builder.provider(settings.kind)
    scopes = {} if settings.anonymous is None else settings.anonymous.scopes
    return MixedAuthProvider(
        builder.provider(settings.primary or "token"),
        builder.spelled_out(scopes),
        anonymous_prefix=settings.anonymous_prefix,
        accept_refused=settings.on_invalid_token == "anonymous",  # noqa: S105  a choice, no password
    )


class _Builder:
    def __init__(
        self,
        settings: AuthSettings,
        schema: Schema | None,
        folder: Path,
        users: UserDirectory | None,
        key_sets: MutableMapping[str, KeySource],
    ) -> None:
        self._settings = settings
        self._schema = schema
        self._folder = folder
        self._users = users
        self._key_sets = key_sets

    def provider(self, kind: str) -> AuthProvider:
        if kind == "none":
            return NoAuthProvider()
        if kind == "kora":
            return self._kora(self._settings.kora or KoraAuthSettings(database=""))
        return {
            "static": self._static,
            "jwt": self._jwt,
            "python": self._python,
            "http": self._http,
            "command": self._command,
        }[self._settings.source or "static"]()

    def spelled_out(self, table: ScopeMap) -> ScopeMap:
        return spelled_out(table, () if self._schema is None else self._schema.collections)

    def _scoping(self, inside: str | None = None) -> Scoping:
        settings = self._settings
        if settings.scopes_from_schema and self._schema is not None:
            return SchemaScoping(self._schema, inside)
        if settings.python_scopes is not None:
            hook = load_hook("auth.python_scopes", settings.python_scopes, self._folder, ("user_id", "claims"))
            return HookScoping(hook, settings.timeout, shared=settings.shared_data)
        if settings.scopes is None and not settings.grants:
            return Unrestricted()
        try:
            table = None if settings.scopes is None else parse_table(self.spelled_out(settings.scopes))
        except BadTemplate as error:
            raise ConfigError([f"auth.scopes: {error}"]) from None
        grants = [self._grant(index, grant) for index, grant in enumerate(settings.grants)]
        # Whom no grant matches sees nothing, unless the file says that all share everything.
        return TableScoping(table, grants, None if settings.shared_data else {})

    def _grant(self, index: int, grant: GrantSettings) -> Grant:
        scopes = self.spelled_out(grant.scopes)
        try:
            return parse_grant(grant.when, read_only(scopes) if grant.readonly else scopes)
        except (BadTemplate, BadPath) as error:
            raise ConfigError([f"auth.grants[{index}]: {error}"]) from None

    def _static(self) -> AuthProvider:
        return StaticTokenProvider(
            StaticToken(
                row.sha256 or token_digest(row.token or ""),
                AuthContext(row.user, None if row.scopes is None else self.spelled_out(row.scopes), row.metadata),
            )
            for row in self._settings.tokens
        )

    def _hook(self, ask: Callable[[str, Caller], Any], name: str, cache_s: float = 0.0) -> HookProvider:
        return HookProvider(
            ask,
            self._scoping(inside="metadata"),
            name=name,
            timeout_s=self._settings.timeout,
            cache_s=cache_s,
            shared=self._settings.shared_data,
        )

    def _python(self) -> AuthProvider:
        hook = load_hook("auth.python", self._settings.python or "", self._folder, ("token",))
        return self._hook(about_token(hook), "auth.python")

    def _http(self) -> AuthProvider:
        # Here and below: the start of a server that does not need it must not wait for it.
        from kora_daemon.auth.web import header_problem, http_hook  # noqa: PLC0415  see above

        settings = self._settings
        if problem := header_problem(settings.headers or {}):
            raise ConfigError([f"auth.headers: {problem}"])
        try:
            ask = http_hook(settings.url or "", settings.headers, settings.timeout)
        except ValueError:
            raise ConfigError(["auth.url: is no URL, expected a host and a port from 1 to 65535"]) from None
        return self._hook(ask, "auth.url", settings.cache)

    def _command(self) -> AuthProvider:
        from kora_daemon.auth.command import CommandHook  # noqa: PLC0415  as above

        child = CommandHook(self._settings.command or (), self._settings.timeout)
        provider = self._hook(child, "auth.command")
        provider.on_close = child.close
        return provider

    def _jwt(self) -> AuthProvider:
        from kora_daemon.auth.jwt_provider import JwtProvider  # noqa: PLC0415  as above

        settings = self._settings.jwt
        if settings is None:
            raise ConfigError(["auth.jwt: is missing"])
        return JwtProvider(
            jwt_rules(settings),
            self._jwt_keys(settings),
            self._scoping(),
            claim_paths("auth.jwt.metadata", settings.metadata),
        )

    def _jwt_keys(self, settings: JwtSettings) -> KeySource:
        url = settings.jwks_url
        if url is None:
            return jwt_keys(settings)
        if url not in self._key_sets:
            self._key_sets[url] = jwt_keys(settings)
        return self._key_sets[url]

    def _kora(self, settings: KoraAuthSettings) -> AuthProvider:
        if settings.database and self._users is None:
            raise ConfigError(["auth.kora.database: names user tables, and this program has not opened them"])
        if self._users is not None and (problems := user_table_problems(self._users)):
            raise ConfigError(problems)
        return KoraAuthProvider(
            kora_secrets(settings),
            self._users if settings.database else None,
            self._scoping(),
            check_device=settings.check_device,
            touch_interval_s=settings.touch_interval,
            revoked=None if settings.revocation_list is None else revocation_list(settings.revocation_list),
        )
