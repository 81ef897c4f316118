"""`kora token`: issue and verify the tokens of `@korajs/auth` and JWTs with a shared secret."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kora_daemon.auth.jws import Refused, decode_object, encode_object, encode_segment, split_token
from kora_daemon.auth.kora_tokens import LIFETIMES_S, KoraTokens
from kora_daemon.auth.sources import claim_paths, jwt_keys, jwt_rules, kora_secrets
from kora_daemon.config import load_settings
from kora_daemon.config.auth import SYMMETRIC, AuthSettings, JwtSettings
from kora_daemon.errors import AuthUnavailable, KoraError
from koractl.commands import Commands
from koractl.options import DEFAULT_CONFIG, ConfigOption

app = Commands(help="Issue or verify tokens.", no_args_is_help=True, rich_markup_mode=None)

_JWT_LIFETIME_S = 15 * 60.0


@app.command()
def issue(
    user: Annotated[str, typer.Option(metavar="ID", help="The user id.")],
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="The device id; device-USER unless given. @korajs/auth only.")
    ] = None,
    kind: Annotated[
        Literal["access", "refresh", "device_credential"],
        typer.Option("--type", help="The kind of token; only access tokens are good for sync. @korajs/auth only."),
    ] = "access",
    lifetime: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="How long it is good; 15 minutes, or 90 days for other kinds."),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="One more claim, or NAME:=JSON; may be repeated. JWTs only."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print a new token, for scripts and tests."""
    auth = _auth(config)
    if not user:
        raise typer.BadParameter("is empty, expected a user id", param_hint="--user")
    if auth.kora is not None:
        if claim:
            raise typer.BadParameter("the tokens of @korajs/auth have six claims and no others", param_hint="--claim")
        tokens = KoraTokens(kora_secrets(auth.kora))
        device_id = f"device-{user}" if device is None else device
        seconds = LIFETIMES_S[kind] if lifetime is None else lifetime
        typer.echo(tokens.issue(user, device_id, kind, time.time(), seconds))
        return
    if device is not None or kind != "access":
        raise typer.BadParameter(
            "only the tokens of @korajs/auth have devices and types", param_hint="--device, --type"
        )
    typer.echo(_signed(_jwt(auth), user, claim or [], _JWT_LIFETIME_S if lifetime is None else lifetime))


@app.command()
def verify(
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token; read from standard input unless given.")
    ] = "-",  # noqa: S107  a dash, no password
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; it is so anyway.")] = True,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print a token's claims, the verdict and the reason; exit with 1 when it is refused.

    Looks at the token alone: not at user tables, revocation lists or scopes.
    """
    del as_json
    auth = _auth(config)
    given = sys.stdin.read().strip() if token == "-" else token  # noqa: S105  a dash, no password
    reason = _reason(auth, given)
    typer.echo(json.dumps({"claims": _claims(given), "verdict": "refused" if reason else "accepted", "reason": reason}))
    if reason is not None:
        raise typer.Exit(1)


def _auth(config: Path) -> AuthSettings:
    # Whatever else the file asks for is none of this command's business.
    auth = load_settings(config).auth
    if auth.kora is None and auth.jwt is None:
        raise KoraError(f'{config}: has no tokens to issue or verify; this is for kind = "kora" and for source = "jwt"')
    return auth


def _jwt(auth: AuthSettings) -> JwtSettings:
    settings = auth.jwt
    if settings is None or not set(settings.algorithms) <= set(SYMMETRIC):
        raise KoraError("only the issuer can sign tokens that are verified with a public key; ask it for one")
    return settings


def _signed(settings: JwtSettings, user: str, given: list[str], lifetime_s: float) -> str:
    now = int(time.time())
    path = claim_paths("auth.jwt.user_claim", {"user": settings.user_claim})["user"]
    claims: dict[str, Any] = {"iat": now, "exp": now + int(lifetime_s)}
    if settings.issuer:
        claims["iss"] = settings.issuer[0]
    if settings.audience:
        claims["aud"] = settings.audience[0]
    for one in given:
        name, value = _claim(one)
        claims[name] = value
    here = claims
    for name in path[:-1]:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            raise typer.BadParameter(f"{name} has to be an object: the user id belongs into it", param_hint="--claim")
    here[path[-1]] = user
    algorithm = settings.algorithms[0]
    key = next((one for one in jwt_keys(settings).current() if algorithm in one.algorithms), None)
    if key is None:
        raise KoraError(f"there is no key for {algorithm}")
    header = {"alg": algorithm, "typ": "JWT"} | ({} if key.kid is None else {"kid": key.kid})
    signed = f"{encode_object(header)}.{encode_object(claims)}"
    return f"{signed}.{encode_segment(key.sign(algorithm, signed.encode()))}"


def _claim(given: str) -> tuple[str, Any]:
    name, separator, text = given.partition("=")
    if not separator or not name.rstrip(":"):
        raise typer.BadParameter(f"{given!r} has no =, expected NAME=TEXT or NAME:=JSON", param_hint="--claim")
    if not name.endswith(":"):
        return name, text
    try:
        return name[:-1], json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r}: {text!r} is no JSON: {error}", param_hint="--claim") from None


def _reason(auth: AuthSettings, token: str) -> str | None:
    """Why the token is refused, None when it is not."""
    try:
        if auth.kora is not None:
            claims = KoraTokens(kora_secrets(auth.kora)).validate(token, time.time()).claims
            return None if claims.type == "access" else f"a {claims.type} token is not for sync"
        if auth.jwt is not None:
            # Here, since it brings cryptography along.
            from kora_daemon.auth.jwt import verify as verify_jwt  # noqa: PLC0415

            keys = jwt_keys(auth.jwt)
            if keys.is_due():
                keys.refresh()
            verify_jwt(token, jwt_rules(auth.jwt), keys.current(), time.time())
    except Refused as refusal:
        return refusal.reason
    except AuthUnavailable as error:
        raise KoraError(str(error)) from error
    return None


def _claims(token: str) -> dict[str, Any] | None:
    """What the token says, whether or not it is true."""
    try:
        return decode_object(split_token(token).payload)
    except (Refused, ValueError):
        return None
