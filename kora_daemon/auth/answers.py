"""What somebody's code answers about a token: {userId, scopes?, metadata?, expiresAt?}, or null or false to refuse."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from kora_daemon.auth.contract import AuthContext
from kora_daemon.auth.jws import is_number
from kora_daemon.auth.scope_maps import checked_scopes
from kora_daemon.errors import AuthUnavailable
from kora_daemon.model.jsvalue import has_lone_surrogate


def read_answer(answer: object) -> AuthContext | None:
    """The context, None for refused. Raises AuthUnavailable for what is no answer: never guess who somebody is."""
    if answer is None or answer is False:
        return None
    if isinstance(answer, AuthContext):
        return checked_context(answer)
    if not isinstance(answer, Mapping):
        raise AuthUnavailable(f"The answer is a {type(answer).__name__}, expected an object with a userId, or null")
    _refuse_near_misses(answer)
    user_id, scopes, metadata, expires_at, device_id = (
        answer.get(name) for name in ("userId", "scopes", "metadata", "expiresAt", "deviceId")
    )
    return checked_context(
        AuthContext(
            user_id,  # type: ignore[arg-type]  # as everything here it is looked at now
            scopes,
            metadata,
            device_id=device_id,
            expires_at=expires_at,
        )
    )


def checked_context(context: AuthContext) -> AuthContext:
    """The context with its scopes copied. Raises AuthUnavailable for one that can't be: somebody's code has made it."""
    if not isinstance(context.user_id, str) or not context.user_id or has_lone_surrogate(context.user_id):
        raise AuthUnavailable("The answer has no userId, or not a text of whole characters that is not empty")
    if context.metadata is not None and not isinstance(context.metadata, Mapping):
        raise AuthUnavailable(f"The answer's metadata are a {type(context.metadata).__name__}, expected an object")
    if context.expires_at is not None and not is_number(context.expires_at):
        raise AuthUnavailable("The answer's expiresAt is no number, expected seconds since 1970")
    device_id = context.device_id if isinstance(context.device_id, str) else None
    return replace(context, scopes=checked_scopes(context.scopes), device_id=device_id)


def _refuse_near_misses(answer: Mapping[object, object]) -> None:
    """A misspelt `scopes` would be no restriction at all."""
    for name in answer:
        if isinstance(name, str) and name != "scopes" and name.lower().strip("_") in ("scope", "scopes", "syncscope"):
            raise AuthUnavailable(f"The answer has {name!r}, expected it to be called scopes")
