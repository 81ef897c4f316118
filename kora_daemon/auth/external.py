"""Claims of well-known issuers as the adapters of `@korajs/auth` map them (auth.md section 4).

For validators of your own that took over from one of these adapters and want the same `metadata`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kora_daemon.auth.claims import Claims
from kora_daemon.auth.contract import AuthContext


def external_context(provider: str, claims: Claims) -> AuthContext | None:
    """The context of verified claims: "clerk", "supabase", or any other name for the generic mapping.

    None without a `sub`. A claim of the wrong type is left out. There are no scopes in it: whoever uses it adds them.
    """
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not user_id:
        return None
    metadata: dict[str, Any] = {"provider": provider}
    metadata |= _texts(claims, {"email": "email"})
    metadata |= _MAPPERS.get(provider, _generic)(claims)
    return AuthContext(user_id, metadata=metadata)


def _texts(claims: Claims, names: Mapping[str, str]) -> dict[str, str]:
    return {name: claims[claim] for claim, name in names.items() if isinstance(claims.get(claim), str)}


def _generic(claims: Claims) -> dict[str, Any]:
    return _texts(claims, {"name": "name"})


def _clerk(claims: Claims) -> dict[str, Any]:
    names = [claims.get("first_name"), claims.get("last_name")]
    name = " ".join(one for one in names if isinstance(one, str) and one)
    found: dict[str, Any] = {"name": name} if name else {}
    return found | _texts(claims, {"org_id": "orgId", "org_slug": "orgSlug", "org_role": "orgRole"})


def _supabase(claims: Claims) -> dict[str, Any]:
    about_user, about_app = claims.get("user_metadata"), claims.get("app_metadata")
    names = [about_user.get("full_name"), about_user.get("name")] if isinstance(about_user, Mapping) else []
    name = next((one for one in names if isinstance(one, str) and one), None)
    found: dict[str, Any] = {} if name is None else {"name": name}
    found |= _texts(claims, {"role": "role", "aud": "aud"})
    return found | ({"appMetadata": about_app} if isinstance(about_app, Mapping) else {})


_MAPPERS: dict[str, Callable[[Claims], dict[str, Any]]] = {"clerk": _clerk, "supabase": _supabase}
