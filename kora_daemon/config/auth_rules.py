"""What the tables of `[auth]` must fulfil together (auth.md section 6)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from operator import attrgetter

from kora_daemon.config.auth import SYMMETRIC, AuthSettings, StaticTokenSettings
from kora_daemon.config.rule import Rule
from kora_daemon.config.settings import Settings


def _users(auth: AuthSettings) -> str | None:
    """The kind that judges signed-in users, None when there are none."""
    if auth.kind == "mixed":
        return auth.primary
    return None if auth.kind == "none" else auth.kind


def _source(auth: AuthSettings) -> str | None:
    return auth.source if _users(auth) == "token" else None


def _belongs(name: str, place: str, here: Callable[[AuthSettings], bool], *, needed: bool) -> Rule:
    """`auth.<name>` may be set only when `here` holds, which `place` says in words; `needed`: then it must be."""

    def complaint(settings: Settings) -> str | None:
        given = attrgetter(name)(settings.auth)
        is_set = given is not None and given != ()
        if is_set and not here(settings.auth):
            return f"is set, but used only with {place}"
        if needed and not is_set and here(settings.auth):
            return f"is missing, expected with {place}"
        return None

    return Rule((f"auth.{name}", "auth.kind", "auth.source", "auth.primary"), complaint)


def _from(source: str) -> Callable[[AuthSettings], bool]:
    return lambda auth: _source(auth) == source


def _key_source(settings: Settings) -> str | None:
    jwt = settings.auth.jwt
    if jwt is None:
        return None
    names = ("jwks_file", "jwks_url", "public_key_file", "secret", "secret_file")
    found = [name for name in names if getattr(jwt, name) is not None]
    if len(found) == 1:
        return None
    return f"found {_listed(found)}, expected exactly one of {', '.join(names)}"


def _algorithms(settings: Settings) -> str | None:
    jwt = settings.auth.jwt
    if jwt is None:
        return None
    symmetric = [name for name in jwt.algorithms if name in SYMMETRIC]
    if symmetric and len(symmetric) < len(jwt.algorithms):
        return f"found {', '.join(jwt.algorithms)}, expected either HS* algorithms alone or none of them"
    if symmetric and jwt.public_key_file is not None:
        return "found HS* algorithms with a public key, expected a secret"
    if not symmetric and (jwt.secret is not None or jwt.secret_file is not None):
        return "found a secret, expected HS* algorithms with it, or a key set or public key"
    return None


def _signing_secret(settings: Settings) -> str | None:
    kora = settings.auth.kora
    if kora is None or (kora.secret is None) != (kora.secret_file is None):
        return None
    return f"found {'none' if kora.secret is None else 'both'}, expected exactly one of secret, secret_file"


def _require_scopes(settings: Settings) -> str | None:
    auth = settings.auth
    if not auth.require_scopes:
        return None
    if auth.kind == "none":
        return 'is set, but with kind = "none" nobody has scopes, expected another kind'
    if auth.shared_data:
        return "is set together with shared_data, which says that nobody needs scopes; expected one of them"
    if any(token.unscoped for token in auth.tokens):
        return "is set, but auth.tokens has unscoped = true, expected scopes for each token"
    return None


def _scopes_from_schema(settings: Settings) -> str | None:
    auth = settings.auth
    if not auth.scopes_from_schema:
        return None
    if _users(auth) is None or _source(auth) == "static":
        return 'is set, but used only with users who have claims (a kind other than none, a source other than "static")'
    if settings.schema is None:
        return "is set, but there is no schema, expected schema to name the app's"
    others = [name for name in ("scopes", "python_scopes") if getattr(auth, name) is not None]
    others += [name for name in ("grants", "shared_data") if getattr(auth, name)]
    return f"is set together with {_listed(others)}, expected one of them" if others else None


def _token_forms(settings: Settings) -> str | None:
    complaints = [
        f"[{index}] {complaint}"
        for index, token in enumerate(settings.auth.tokens)
        if (complaint := _token_form(token))
    ]
    return "; ".join(complaints) or None


def _token_form(token: StaticTokenSettings) -> str | None:
    if (token.token is None) == (token.sha256 is None):
        return f"has {'neither' if token.token is None else 'both'}, expected exactly one of token, sha256"
    if token.unscoped and token.scopes is not None:
        return "has scopes and unscoped = true, expected one of them"
    if not token.unscoped and token.scopes is None:
        return "has no scopes, expected scopes, or unscoped = true if it may see and write everything"
    return None


def _tokens_differ(settings: Settings) -> str | None:
    digests = Counter(token_sha256(token) for token in settings.auth.tokens)
    if repeated := sum(1 for digest, count in digests.items() if digest is not None and count > 1):
        return f"found {repeated} token{'s' if repeated > 1 else ''} more than once, expected each in one entry"
    return None


def token_sha256(token: StaticTokenSettings) -> str | None:
    """Hex digest of the token, however it was given."""
    if token.token is None:
        return token.sha256
    return hashlib.sha256(token.token.encode("utf-8", "surrogatepass")).hexdigest()


def _listed(names: list[str]) -> str:
    return " and ".join(names) or "none"


AUTH_RULES = (
    _belongs("source", 'kind = "token" (or primary = "token")', lambda auth: _users(auth) == "token", needed=True),
    _belongs("primary", 'kind = "mixed"', lambda auth: auth.kind == "mixed", needed=True),
    _belongs("anonymous", 'kind = "mixed"', lambda auth: auth.kind == "mixed", needed=True),
    _belongs("kora", 'kind = "kora" (or primary = "kora")', lambda auth: _users(auth) == "kora", needed=True),
    _belongs("jwt", 'kind = "token" and source = "jwt"', _from("jwt"), needed=True),
    _belongs("tokens", 'kind = "token" and source = "static"', _from("static"), needed=True),
    _belongs("python", 'kind = "token" and source = "python"', _from("python"), needed=True),
    _belongs("url", 'kind = "token" and source = "http"', _from("http"), needed=True),
    _belongs("headers", 'kind = "token" and source = "http"', _from("http"), needed=False),
    _belongs("command", 'kind = "token" and source = "command"', _from("command"), needed=True),
    _belongs("scopes", "signed-in users (a kind other than none)", lambda auth: auth.kind != "none", needed=False),
    _belongs("grants", "signed-in users (a kind other than none)", lambda auth: auth.kind != "none", needed=False),
    _belongs(
        "python_scopes", "signed-in users (a kind other than none)", lambda auth: auth.kind != "none", needed=False
    ),
    Rule(("auth.jwt", "auth.jwt.algorithms"), _key_source),
    Rule(("auth.jwt.algorithms", "auth.jwt"), _algorithms),
    Rule(("auth.kora",), _signing_secret),
    Rule(("auth.require_scopes", "auth.kind", "auth.shared_data", "auth.tokens"), _require_scopes),
    Rule(
        (
            "auth.scopes_from_schema",
            "auth.kind",
            "auth.source",
            "auth.primary",
            "auth.scopes",
            "auth.python_scopes",
            "auth.grants",
            "auth.shared_data",
            "schema",
        ),
        _scopes_from_schema,
    ),
    Rule(("auth.tokens",), _token_forms),
    Rule(("auth.tokens",), _tokens_differ),
)
