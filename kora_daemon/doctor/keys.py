"""Who judges tokens, as far as it is elsewhere: keys that verify them, tables of users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from kora_daemon.auth.sources import jwt_keys
from kora_daemon.config import Settings
from kora_daemon.config.auth import JwtSettings
from kora_daemon.doctor.certificate import validity
from kora_daemon.doctor.checks import Check, Finding, failure, fine
from kora_daemon.errors import AuthUnavailable
from kora_daemon.parts import build_users


def keys(settings: Settings) -> Iterator[Check]:
    """The keys of `[auth.jwt]`, and the tables of `[auth.kora]`."""
    jwt, kora = settings.auth.jwt, settings.auth.kora
    if jwt is not None:
        yield Check("auth.keys", lambda: _keys(jwt))
        if jwt.public_key_file is not None and b"BEGIN CERTIFICATE" in jwt.public_key_file.read_bytes():
            certificate = jwt.public_key_file
            yield Check("auth.certificate", lambda: validity(certificate))
    if kora is not None and kora.database:
        yield Check("auth.users", lambda: _users(settings))


def _keys(jwt: JwtSettings) -> Finding:
    source = jwt_keys(jwt)
    try:
        source.refresh()
        found = source.current()
    except AuthUnavailable as error:
        return failure(f"the key set can't be had: {error}", "check auth.jwt.jwks_url, and the way to it from here")
    usable = [key for key in found if set(key.algorithms) & set(jwt.algorithms)]
    if not usable:
        wanted = ", ".join(jwt.algorithms)
        return failure(f"none of {len(found)} keys is for {wanted}: nobody gets in", "correct auth.jwt.algorithms")
    return fine(f"{len(usable)} of {len(found)} keys are for {', '.join(jwt.algorithms)}")


def _users(settings: Settings) -> Finding:
    users = build_users(settings.auth)
    if users is None:
        return fine("there are no user tables to ask")
    with closing(users):
        if missing := users.missing():
            return failure(f"the user tables lack {', '.join(missing)}", "check auth.kora.database")
    return fine("the user tables can be asked")
