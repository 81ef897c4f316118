"""Keys, secrets and rules, as the settings name them. Messages name the place, never the secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kora_daemon.auth.claims import BadPath, ClaimPath, parse_path
from kora_daemon.auth.kora_tokens import secret_problem
from kora_daemon.auth.revocations import RevocationList
from kora_daemon.config.auth import JwtSettings, KoraAuthSettings
from kora_daemon.errors import AuthUnavailable, ConfigError

if TYPE_CHECKING:
    from kora_daemon.auth.jwt import JwtRules
    from kora_daemon.auth.key_sets import KeySource


def kora_secrets(settings: KoraAuthSettings) -> list[str]:
    """The secrets of `@korajs/auth` tokens, newest first. Raises ConfigError."""
    if settings.secret_file is None:
        path, secrets = "auth.kora.secret", list(settings.secret or ())
    else:
        path = "auth.kora.secret_file"
        secrets = [line for line in _text(path, settings.secret_file).splitlines() if line.strip()]
    if problem := secret_problem(secrets):
        raise ConfigError([f"{path}: {problem}"])
    return secrets


def revocation_list(path: Path) -> RevocationList:
    """The list in this file, read once. Raises ConfigError."""
    found = RevocationList(path)
    try:
        found.revokes()
    except AuthUnavailable as error:
        raise ConfigError([f"auth.kora.revocation_list: {error}"]) from None
    return found


def jwt_rules(settings: JwtSettings) -> JwtRules:
    """What a token must fulfil. Raises ConfigError."""
    from kora_daemon.auth.jwt import JwtRules  # noqa: PLC0415  brings cryptography along, which takes its time

    return JwtRules(
        settings.algorithms,
        settings.issuer,
        settings.audience,
        settings.leeway,
        settings.require_exp,
        claim_paths("auth.jwt.user_claim", {"": settings.user_claim})[""],
    )


def jwt_keys(settings: JwtSettings) -> KeySource:
    """Where the keys are; those of files are read. Raises ConfigError."""
    # Here, so that the start of a server that needs no keys does not wait for cryptography.
    from kora_daemon.auth.key_sets import FetchedKeys, FixedKeys  # noqa: PLC0415  see above
    from kora_daemon.auth.keys import BadKey, key_set, pem_key, secret_key  # noqa: PLC0415  see above
    from kora_daemon.auth.web import key_set_fetcher  # noqa: PLC0415  see above

    if settings.jwks_url is not None:
        try:
            return FetchedKeys(key_set_fetcher(settings.jwks_url))
        except ValueError:
            raise ConfigError(["auth.jwt.jwks_url: is no URL, expected a host and a port from 1 to 65535"]) from None
    path = ""
    try:
        if settings.jwks_file is not None:
            path = "auth.jwt.jwks_file"
            keys = key_set(_bytes(path, settings.jwks_file))
        elif settings.public_key_file is not None:
            path = "auth.jwt.public_key_file"
            keys = [pem_key(_bytes(path, settings.public_key_file))]
        elif settings.secret_file is not None:
            path = "auth.jwt.secret_file"
            keys = [secret_key(_bytes(path, settings.secret_file).rstrip(b"\r\n"))]
        else:
            path = "auth.jwt.secret"
            keys = [secret_key((settings.secret or "").encode("utf-8", "surrogatepass"))]
    except BadKey as error:
        raise ConfigError([f"{path}: {error}"]) from None
    if not any(algorithm in settings.algorithms for key in keys for algorithm in key.algorithms):
        raise ConfigError([f"{path}: has no key for {', '.join(settings.algorithms)}"])
    return FixedKeys(keys)


def claim_paths(place: str, given: Mapping[str, str] | None) -> dict[str, ClaimPath]:
    """Names with their paths. Raises ConfigError."""
    try:
        return {name: parse_path(path) for name, path in (given or {}).items()}
    except BadPath as error:
        raise ConfigError([f"{place}: {error}"]) from None


def _bytes(path: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {file} can't be read: {error.strerror}"]) from None


def _text(path: str, file: Path) -> str:
    try:
        return _bytes(path, file).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: {file} is not UTF-8"]) from None
