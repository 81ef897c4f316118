"""What somebody's code answers about a token: {userId, scopes?, metadata?, expiresAt?}, or null or false to refuse."""

from __future__ import annotations

from collections.abc import Mapping

from kora_daemon.auth.contract import AuthContext
from kora_daemon.auth.jws import is_number
from kora_daemon.auth.scope_maps import checked_scopes
from kora_daemon.errors import AuthUnavailable


def read_answer(answer: object) -> AuthContext | None:
    """The context, None for refused. Raises AuthUnavailable for what is no answer: never guess who somebody is."""
    if answer is None or answer is False:
        return None
    if isinstance(answer, AuthContext):
        answer = {
            "userId": answer.user_id,
            "scopes": answer.scopes,
            "metadata": answer.metadata,
            "expiresAt": answer.expires_at,
            "deviceId": answer.device_id,
        }
    if not isinstance(answer, Mapping):
        raise AuthUnavailable(f"The answer is a {type(answer).__name__}, expected an object with a userId, or null")
    _refuse_near_misses(answer)
    user_id = answer.get("userId")
    if not isinstance(user_id, str) or not user_id:
        raise AuthUnavailable("The answer has no userId, or not a text that is not empty")
    metadata, expires_at, device_id = (answer.get(name) for name in ("metadata", "expiresAt", "deviceId"))
    if metadata is not None and not isinstance(metadata, Mapping):
        raise AuthUnavailable(f"The answer's metadata are a {type(metadata).__name__}, expected an object")
    if expires_at is not None and not is_number(expires_at):
        raise AuthUnavailable("The answer's expiresAt is no number, expected seconds since 1970")
    return AuthContext(
        user_id,
        checked_scopes(answer.get("scopes")),
        metadata,
        device_id=device_id if isinstance(device_id, str) else None,
        expires_at=expires_at,
    )


def _refuse_near_misses(answer: Mapping[object, object]) -> None:
    """A misspelt `scopes` would be no restriction at all."""
    for name in answer:
        if isinstance(name, str) and name != "scopes" and name.lower().strip("_") in ("scope", "scopes", "syncscope"):
            raise AuthUnavailable(f"The answer has {name!r}, expected it to be called scopes")
