"""The app of every simulation: its schema, who uses it, and what each of them may see, said as plainly as possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kora_daemon.auth.contract import AuthContext
from kora_daemon.model.scope import ScopeMap
from kora_daemon.schema_file.document import read_schema

Sent = dict[str, Any]

SCHEMA: Final = read_schema(
    {
        "version": 1,
        "collections": {
            "tasks": {"fields": {"owner": "string", "title": "string", "n": "number"}, "scope": ["owner"]},
            "notes": {"fields": {"owner": "string", "task": "string", "text": "string"}, "scope": ["owner"]},
            "board": {"fields": {"text": "string", "n": "number"}},
        },
        "relations": {"notes_of_task": {"from": "notes", "to": "tasks", "field": "task", "onDelete": "cascade"}},
    }
)
FIELDS: Final = {"tasks": ("owner", "title", "n"), "notes": ("owner", "task", "text"), "board": ("text", "n")}
OWNED: Final = frozenset({"tasks", "notes"})
OWNERS: Final = ("alice", "bob")
_FLAG: Final = "__readonly"


def _own(owner: str) -> ScopeMap:
    return {"tasks": {"owner": owner}, "notes": {"owner": owner}, "board": {}}


SCOPES: Final[Mapping[str, ScopeMap | None]] = {
    "alice": _own("alice"),
    "bob": _own("bob"),
    "visitor": {"board": {}},
    "reader": {"board": {_FLAG: True}},
    "admin": None,
}
"""By user; a token is the user's name. Devices without one are the visitor's."""


def told_scope(user: str) -> ScopeMap | None:
    """What a user's devices are told of it; those who are told the same share presence."""
    scopes = SCOPES[user]
    if scopes is None:
        return None
    return {name: {field: value for field, value in where.items() if field != _FLAG} for name, where in scopes.items()}


class People:
    """The auth provider: everybody is who they say they are, and strangers are refused."""

    minds_scopes = True

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context of a user."""
        user = token or "visitor"
        return AuthContext(user, SCOPES[user], is_visitor=not token) if user in SCOPES else None


def may_see(user: str, collection: str, owner: str | None) -> bool:
    """Whether a user may be sent an operation on a record of this owner. Owners never change."""
    if user == "admin" or collection == "board":
        return True
    return collection in OWNED and owner == user


def may_write(user: str, collection: str, owner: str | None) -> bool:
    """Whether a user may upload one."""
    return user != "reader" and may_see(user, collection, owner)
