"""What providers have in common that judge a token, and then decide what its user may see."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from kora_daemon.auth.contract import NOBODY, AuthContext, Caller, Calls, DirectCalls
from kora_daemon.auth.scoping import Scoping


class ScopingProvider(ABC):
    """The calls that it makes are those of its scoping, too. `clock` tells seconds since the epoch."""

    def __init__(self, scoping: Scoping, clock: Callable[[], float] = time.time) -> None:
        self._scoping = scoping
        self._clock = clock
        self._calls: Calls = DirectCalls()

    def use(self, calls: Calls) -> None:
        """Do what takes time with these."""
        self._calls = calls
        self._scoping.use(calls)

    @property
    def minds_scopes(self) -> bool:
        """Whether nobody is unrestricted unnoticed."""
        return not self._scoping.is_unrestricted

    async def authenticate(self, token: str) -> AuthContext | None:
        """The context behind a token."""
        return await self.judge(token, NOBODY)

    @abstractmethod
    async def judge(self, token: str, caller: Caller) -> AuthContext | None:
        """The context behind a token that this caller shows."""
