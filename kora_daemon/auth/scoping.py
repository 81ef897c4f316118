"""From claims to scopes: tables of the configuration, the rules of the schema, or somebody's code."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import structlog

from kora_daemon.auth.claims import Claims, is_value
from kora_daemon.auth.contract import Calls, DirectCalls
from kora_daemon.auth.foreign import described
from kora_daemon.auth.schema_rules import claimed_values, granted_scopes, schema_rules, value_keys
from kora_daemon.auth.scope_maps import checked_scopes
from kora_daemon.auth.templates import Grant, ScopesRefused, ScopeTable
from kora_daemon.errors import AuthUnavailable
from kora_daemon.model.schema import Schema
from kora_daemon.model.scope import ScopeMap

ScopeHook = Callable[[str, Claims], Any]
"""Is given a user id and the claims; returns scopes, None for unrestricted, False to refuse. Plain or async."""

log = structlog.get_logger("kora.auth")


class Scoping(Protocol):
    """Decides what somebody may see and write."""

    @property
    def is_unrestricted(self) -> bool:
        """Whether it has nothing to say."""
        ...

    async def scopes(self, user_id: str, claims: Claims) -> ScopeMap | None:
        """The scopes, None = unrestricted. Raises ScopesRefused and AuthUnavailable."""
        ...

    def use(self, calls: Calls) -> None:
        """Make what takes time with these."""
        ...


class Unrestricted:
    """No scopes: everybody who is signed in shares everything."""

    is_unrestricted = True

    async def scopes(self, user_id: str, claims: Claims) -> ScopeMap | None:
        """None."""
        del user_id, claims
        return None

    def use(self, calls: Calls) -> None:
        """There is nothing to make."""


class TableScoping:
    """The first grant that matches, else the table; without one, what `otherwise` says: nothing ({}) or all (None)."""

    is_unrestricted = False

    def __init__(
        self, table: ScopeTable | None, grants: Sequence[Grant] = (), otherwise: ScopeMap | None = None
    ) -> None:
        self._table = table
        self._grants = grants
        self._otherwise = otherwise

    async def scopes(self, user_id: str, claims: Claims) -> ScopeMap | None:
        """The scopes by the claims alone."""
        del user_id
        for grant in self._grants:
            if grant.matches(claims):
                return grant.table.scopes(claims)
        return self._otherwise if self._table is None else self._table.scopes(claims)

    def use(self, calls: Calls) -> None:
        """There is nothing to make."""


class SchemaScoping:
    """The schema's own rules; where a value is missing or none, the collection is hidden.

    `inside` names the claim that has the values, beside the user id, for those whose claims are not a token's.
    """

    is_unrestricted = False

    def __init__(self, schema: Schema, inside: str | None = None) -> None:
        self._rules = schema_rules(schema)
        self._keys = value_keys(schema)
        self._inside = inside

    async def scopes(self, user_id: str, claims: Claims) -> ScopeMap | None:
        """The scopes by the claims alone."""
        if self._inside is not None:
            claims = {**claims[self._inside], "sub": user_id}
        values = claimed_values(claims, self._keys)
        return granted_scopes(self._rules, {key: value for key, value in values.items() if is_value(value)})

    def use(self, calls: Calls) -> None:
        """There is nothing to make."""


class HookScoping:
    """Somebody's code. `shared`: that it leaves people unrestricted is on purpose."""

    is_unrestricted = False

    def __init__(self, hook: ScopeHook, timeout_s: float = 5.0, *, shared: bool = False) -> None:
        self._hook = hook
        self._timeout_s = timeout_s
        self._calls: Calls = DirectCalls()
        self._warned = shared

    def use(self, calls: Calls) -> None:
        """Call the hook with these."""
        self._calls = calls

    async def scopes(self, user_id: str, claims: Claims) -> ScopeMap | None:
        """Ask the hook."""
        answer = await call_hook(self._calls, self._timeout_s, self._hook, user_id, claims)
        if answer is False:
            raise ScopesRefused("the scope hook refused")
        scopes = checked_scopes(answer)
        if scopes is None and not self._warned:
            self._warned = True
            hint = "whoever it answers nothing for may read and write everything; shared_data = true says so"
            log.warning("auth.unrestricted", hook="auth.python_scopes", hint=hint)
        return scopes


async def call_hook(calls: Calls, timeout_s: float, hook: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401  looked at by who asked
    """What somebody's callable answers, async or plain. Raises AuthUnavailable for whatever it raises.

    The text is for the log and says what went wrong and where; the words of the exception may quote the token.
    """
    try:
        if is_async(hook):
            return await calls.awaiting(lambda: hook(*arguments), timeout_s)
        (answer,) = await calls.blocking(lambda: _boxed(hook, arguments), timeout_s)
        if inspect.isawaitable(answer):
            awaitable: Awaitable[Any] = answer
            return await calls.awaiting(lambda: awaitable, timeout_s)
    except AuthUnavailable:
        raise
    except Exception as error:
        raise AuthUnavailable(f"The hook failed: {described(error)}") from None
    return answer


def _boxed(hook: Callable[..., Any], arguments: Sequence[object]) -> tuple[Any]:
    """The answer in a box: a thread must not hand over a bare coroutine, trio takes that for a mistake."""
    try:
        return (hook(*arguments),)
    except SystemExit:
        raise AuthUnavailable("The hook wants the process to exit") from None


def is_async(hook: Callable[..., Any]) -> bool:
    """Whether a callable is an async function, or an object that is called like one."""
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004  not whether it has one
