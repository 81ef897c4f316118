"""Which keys count just now: fixed ones, or a key set behind a URL that is fetched again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from threading import Lock
from typing import Final, Protocol

import structlog
from msgspec import Struct

from kora_daemon.auth.keys import BadKey, Key, key_set
from kora_daemon.errors import AuthUnavailable

REFRESHED_AFTER_S: Final = 600.0
"""So long a key set is used without asking again."""
LEAST_INTERVAL_S: Final = 60.0
"""Between two fetches, whatever tokens come along."""
LEAST_RETRY_S: Final = 5.0
"""Between two fetches while there is no key set at all, or the last fetch failed."""
RETIRED_FOR_S: Final = 300.0
"""So long a key still counts that is not in the set any more: another server may have been ahead of the publication."""
OUTDATED_AFTER_S: Final = 86_400.0
"""A set this old, that could not be fetched again since, proves nothing any more."""
_REMEMBERED_KIDS: Final = 1_000

log = structlog.get_logger("kora.auth")


class Missing(Enum):
    """What to make of a kid that is in no key set."""

    REFUSE = "refuse"
    FETCH = "fetch"
    WAIT = "wait"


class KeySource(Protocol):
    """Keys, as they are known now."""

    def current(self) -> Sequence[Key]:
        """All keys. Raises AuthUnavailable when there are none to be had."""
        ...

    def missing(self, kid: str | None) -> Missing:
        """What to do when no key of this name (None: no key at all) has signed a token."""
        ...

    def refresh(self) -> None:
        """Fetch the keys, if that may be done now. Blocks. Raises AuthUnavailable when it failed."""
        ...

    def is_due(self) -> bool:
        """Whether a refresh would be in order."""
        ...


class FixedKeys:
    """Keys from files; a reload of the configuration reads them again."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    def current(self) -> Sequence[Key]:
        """All of them."""
        return self._keys

    def missing(self, kid: str | None) -> Missing:
        """There will be no others."""
        del kid
        return Missing.REFUSE

    def refresh(self) -> None:
        """There is nothing to fetch."""

    def is_due(self) -> bool:
        """Never."""
        return False


class _Known(Struct):
    key: Key
    retired_at: float | None = None


class FetchedKeys:
    """The key set behind a URL. `fetch` gets its bytes, blocks, and raises AuthUnavailable.

    An unknown kid makes for one fetch, at most one a minute. In between, a kid that a fetch has shown to be unknown is
    refused; of others nobody knows yet, and to call their tokens bad would sign people out.
    """

    def __init__(self, fetch: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = Lock()
        self._known: dict[str, _Known] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False
        self._asked: OrderedDict[str | None, bool] = OrderedDict()
        """Kids that were not found; True: not by the latest fetch either."""

    def current(self) -> Sequence[Key]:
        """The latest set, and those that left it a short while ago."""
        now = self._clock()
        if self._fetched_at is None or now - self._fetched_at > OUTDATED_AFTER_S:
            raise AuthUnavailable("There is no key set yet" if self._fetched_at is None else "The key set is outdated")
        return [
            one.key
            for one in list(self._known.values())
            if one.retired_at is None or now - one.retired_at <= RETIRED_FOR_S
        ]

    def missing(self, kid: str | None) -> Missing:
        """Refuse what a fetch has shown to be unknown, fetch if that may be done, else wait for it."""
        if self._asked.get(kid):
            # A minute later it may be there, though.
            return Missing.FETCH if self._may_fetch() else Missing.REFUSE
        self._asked[kid] = False
        while len(self._asked) > _REMEMBERED_KIDS:
            self._asked.popitem(last=False)
        if self._may_fetch():
            return Missing.FETCH
        return Missing.REFUSE if kid is None else Missing.WAIT

    def is_due(self) -> bool:
        """Whether there is no set, or one that has not been asked for lately."""
        if self._fetched_at is None and self._lock.locked():
            return True  # whoever needs a key waits for the fetch that is under way
        now = self._clock()
        stale = self._fetched_at is None or now - self._fetched_at >= REFRESHED_AFTER_S
        return stale and self._may_fetch()

    def _may_fetch(self) -> bool:
        if self._tried_at is None:
            return True
        waited = self._clock() - self._tried_at
        return waited >= (LEAST_RETRY_S if self._failed or self._fetched_at is None else LEAST_INTERVAL_S)

    def refresh(self) -> None:
        """Fetch the set, once for all who ask at the same time."""
        with self._lock:
            if not self._may_fetch():
                return
            self._tried_at = self._clock()
            self._failed = True
            asked = list(self._asked)
            try:
                keys = key_set(self._fetch())
            except BadKey as error:
                raise AuthUnavailable(f"The answer can't be used as a key set: {error}") from None
            self._replace(keys)
            self._failed = False
            for kid in asked:
                self._asked[kid] = True

    def _replace(self, keys: Sequence[Key]) -> None:
        now = self._clock()
        fresh = {f"{one.digest} {one.kid}": _Known(one) for one in keys}
        retired = {
            name: _Known(one.key, now if one.retired_at is None else one.retired_at)
            for name, one in self._known.items()
            if name not in fresh
        }
        retired = {name: one for name, one in retired.items() if now - (one.retired_at or now) <= RETIRED_FOR_S}
        if fresh.keys() != self._known.keys():
            log.info("auth.keys_changed", kids=[one.kid for one in keys], retired=[o.key.kid for o in retired.values()])
        self._known = fresh | retired
        self._fetched_at = now
