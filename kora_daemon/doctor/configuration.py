"""The configuration file, and what it names: schema, code, keys, secrets."""

from __future__ import annotations

import ipaddress
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kora_daemon.auth.contract import Tended
from kora_daemon.config import Settings
from kora_daemon.config.interpolation import has_reference
from kora_daemon.config.keys import Key, declared_in
from kora_daemon.doctor.checks import Check, Finding, fine, warning
from kora_daemon.parts import build_auth, load_parts

_HAS_PASSWORD = re.compile(r"://[^/@]*:[^/@]+@|pass\w*\s*=")


def configuration(settings: Settings) -> Iterator[Check]:
    """What the file names, who may read it, who may connect."""
    yield Check("config.parts", lambda: _parts(settings))
    yield Check("config.permissions", lambda: _permissions(settings))
    yield Check("auth.open", lambda: _open(settings))


def _parts(settings: Settings) -> Finding:
    parts = load_parts(settings)
    provider = build_auth(settings, parts)
    if isinstance(provider, Tended):
        provider.close()
    if parts.schema is None:
        return fine("no schema: the log alone is kept; the auth provider can be built")
    return fine(f"the schema has {len(parts.schema.collections)} collections; the auth provider can be built")


def _permissions(settings: Settings) -> Finding:
    exposed = [f"{path} ({what})" for path, what in _secret_files(settings) if _is_readable_by_all(path)]
    if not exposed:
        return fine("no file with secrets can be read by everybody on this host")
    return warning(
        f"everybody on this host can read {', '.join(exposed)}",
        "chmod o= them; in the configuration, ${NAME} takes a secret from the environment",
    )


def _secret_files(settings: Settings) -> Iterator[tuple[Path, str]]:
    if settings.source is not None:
        document = tomllib.loads(settings.source.read_bytes().decode("utf-8-sig"))
        if inline := list(_inline_secrets(Settings, document, "")):
            yield settings.source, f"it has {', '.join(inline)} in it"
    kora, jwt = settings.auth.kora, settings.auth.jwt
    if settings.server.tls_key is not None:
        yield settings.server.tls_key, "server.tls_key"
    if kora is not None and kora.secret_file is not None:
        yield kora.secret_file, "auth.kora.secret_file"
    if jwt is not None and jwt.secret_file is not None:
        yield jwt.secret_file, "auth.jwt.secret_file"


def _inline_secrets(cls: type[Any], given: Mapping[str, Any], path: str) -> Iterator[str]:
    """The paths of secrets that the document itself has, and does not take from the environment."""
    for name, declared in declared_in(cls).items():
        value, here = given.get(name), f"{path}.{name}" if path else name
        if isinstance(declared, Key):
            if declared.secret and value and not has_reference(value) and _is_secret(value):
                yield here
        elif isinstance(value, dict):
            yield from _inline_secrets(declared.cls, value, here)
        else:
            for index, one in enumerate(value or ()):
                yield from _inline_secrets(declared.cls, one, f"{here}[{index}]")


def _is_secret(value: object) -> bool:
    """A URL is one only when there is a password in it."""
    is_address = isinstance(value, str) and ("://" in value or "=" in value or value.startswith("sqlite:"))
    return not is_address or _HAS_PASSWORD.search(str(value)) is not None


def _is_readable_by_all(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)


def _open(settings: Settings) -> Finding:
    if settings.auth.kind != "none":
        return fine(f'auth.kind is "{settings.auth.kind}"')
    public = [host for host in settings.server.host if not _is_loopback(host)]
    if not public:
        return fine('auth.kind is "none", and only this host can connect')
    return warning(
        f"whoever reaches {', '.join(public)} may read and write everything",
        "set [auth], or listen on 127.0.0.1",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
