"""Who decides who somebody is: the auth provider of a server, in its time in office, and the one after it.

The server lends it threads, does its chores and closes it. None of its troubles get out: an outage is AuthUnavailable,
and what somebody else's code has raised or answered is described, never quoted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
import trio
from msgspec import Struct

from kora_daemon.auth.answers import checked_context
from kora_daemon.auth.contract import (
    ANEW,
    AuthContext,
    AuthProvider,
    Caller,
    CallsOut,
    MindsScopes,
    Standing,
    Tended,
    judge_of,
    standings,
)
from kora_daemon.auth.foreign import described
from kora_daemon.errors import AuthUnavailable
from kora_daemon.server.auth_calls import AuthCalls
from kora_daemon.server.beat import next_beat
from kora_daemon.server.threads import ThreadPool

T = TypeVar("T")

LEAST_PATIENCE_S: Final = 10.0
"""For a login, beyond what a hook may take: a look-up of users or a fetch of keys may come before it."""
RECHECK_PATIENCE_S: Final = 60.0
"""For a chunk of sessions. Nobody waits for it."""
TEND_INTERVAL_S: Final = 1.0
TEND_PATIENCE_S: Final = 10.0

log = structlog.get_logger("kora.auth")


class AuthRules(Struct, frozen=True):
    """What holds for the answers of any provider. Times in seconds; the defaults are those of the configuration."""

    timeout: float = 5.0
    """For one hook. A provider has as long to answer, and some more for its own look-ups."""
    require_scopes: bool = False
    """Whether whoever has no scopes is refused."""
    shared_data: bool = False
    """Whether it is on purpose that people have none."""
    revalidate: float = 30.0
    """Between two re-checks of a live session; 0 = only when the server is reconfigured."""
    close_on_expiry: bool = False
    """Whether a session ends with its token."""


class Identification:
    """Asks the provider. `unscoped` counts the answers without scopes, let in or refused."""

    def __init__(self, provider: AuthProvider, rules: AuthRules | None = None) -> None:
        self.rules = rules or AuthRules()
        self.unscoped = 0
        self._calls = AuthCalls()
        self._term = _Term(provider, self._calls)
        self._over: list[_Term] = []

    def replace(self, provider: AuthProvider, rules: AuthRules) -> None:
        """Ask another one from now on. May be called from any thread."""
        if provider is not self._term.provider:
            before, self._term = self._term, _Term(provider, self._calls)
            self._over.append(before)
        self.rules = rules

    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """The context behind a token, None for a bad one. Raises AuthUnavailable."""
        term = self._term
        context = await term.ask(lambda: term.judge(token, caller), LEAST_PATIENCE_S + self.rules.timeout)
        if term is not self._term:
            return await self.judge(token, caller)  # it was replaced in the meantime: its successor has to say
        return None if context is None else self._approved(_checked(context))

    async def standings(self, contexts: Sequence[AuthContext]) -> list[Standing]:
        """Where contexts stand now, in the same order. Raises AuthUnavailable."""
        term = self._term
        found = await term.ask(lambda: standings(term.provider, contexts), RECHECK_PATIENCE_S)
        if not isinstance(found, list) or len(found) != len(contexts):
            raise AuthUnavailable("The auth provider has not said of each session where it stands")
        return [one if one is None or one is ANEW else self._approved(_checked(one)) for one in found]

    async def tend(self) -> None:
        """Do the provider's chores about once a second, and close those whose time is over, for ever."""
        while True:
            await self._term.tend()
            for term in [one for one in self._over if not one.asked]:
                self._over.remove(term)
                await term.close()
            await trio.sleep_until(next_beat(TEND_INTERVAL_S))

    async def close(self) -> None:
        """Let the providers write what is left, and close them."""
        async with trio.open_nursery() as nursery:
            for term in (*self._over, self._term):
                nursery.start_soon(term.close)
        self._over.clear()

    def _approved(self, context: AuthContext) -> AuthContext | None:
        if context.scopes is None:
            self.unscoped += 1
            if self.rules.require_scopes or not self.rules.shared_data:
                self._term.warn_unscoped(refused=self.rules.require_scopes)
            if self.rules.require_scopes:
                return None
        return context


class _Term:
    """One provider's time in office; `asked` is how many questions it has not answered yet."""

    def __init__(self, provider: AuthProvider, calls: AuthCalls) -> None:
        self.provider = provider
        self.asked = 0
        self.judge: Callable[[str, Caller], Awaitable[AuthContext | None]] = judge_of(provider)
        self._thread = ThreadPool("kora-auth-chores", 1)
        self._fails = False
        self._warned = isinstance(provider, MindsScopes) and provider.minds_scopes
        self._warned_of_refusals = False
        if isinstance(provider, CallsOut):
            provider.use(calls)

    async def ask(self, question: Callable[[], Awaitable[T]], patience_s: float) -> T:
        """What it answers. Raises AuthUnavailable."""
        self.asked += 1
        try:
            with trio.CancelScope(deadline=trio.current_time() + patience_s):
                return await question()
        except AuthUnavailable:
            raise
        except (Exception, SystemExit) as error:
            raise AuthUnavailable(f"The auth provider failed: {described(error)}") from None
        finally:
            self.asked -= 1
        raise AuthUnavailable(f"The auth provider has not answered within {patience_s:g} s")

    async def tend(self) -> None:
        """Let it do what is due."""
        if isinstance(self.provider, Tended):
            await self._chore("tend", self.provider.tend)

    async def close(self) -> None:
        """Let it write what is left and let go of everything."""
        if isinstance(self.provider, Tended):
            await self._chore("close", self.provider.close)

    async def _chore(self, name: str, call: Callable[[], None]) -> None:
        try:
            with trio.fail_after(TEND_PATIENCE_S):
                await self._thread.run_abandonable(call)
        except trio.TooSlowError:
            problem = f"not done within {TEND_PATIENCE_S:g} s"
        except (Exception, SystemExit) as error:  # whatever it is, it is the provider's own
            problem = described(error)
        else:
            self._fails = False
            return
        if not self._fails:
            log.error("auth.chore_failed", chore=name, problem=problem)
        self._fails = True

    def warn_unscoped(self, *, refused: bool) -> None:
        """Say once that it leaves people unrestricted, or that they are refused for it."""
        if refused and not self._warned_of_refusals:
            self._warned_of_refusals = True
            hint = "whoever has no scopes is refused, since require_scopes = true"
            log.warning("auth.unscoped_refused", provider=type(self.provider).__name__, hint=hint)
        elif not refused and not self._warned:
            self._warned = True
            hint = "whoever it gives no scopes may read and write everything; shared_data = true says so"
            log.warning("auth.unrestricted", provider=type(self.provider).__name__, hint=hint)


def _checked(context: object) -> AuthContext:
    if not isinstance(context, AuthContext):
        raise AuthUnavailable(f"The auth provider answers a {type(context).__name__}, expected an AuthContext or None")
    return checked_context(context)
