"""A real store behind troubles: calls that fail, commits that fail, commits of which nobody knows, and sudden death."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from kora_daemon.errors import StoreUnavailable
from kora_daemon.model.record import RecordKey
from kora_daemon.store.contract import Store, WriteTransaction
from kora_daemon.torture.weather import Weather

_NEVER_FAIL = frozenset({"node_id", "channel", "size_bytes"})


class TroubledStore:
    """The store of one life of the daemon. `committed` is told of each commit that happened, whatever is said of it."""

    def __init__(self, store: Store, weather: Weather, committed: Callable[[str], None]) -> None:
        self._store = store
        self._weather = weather
        self._committed = committed
        self._is_dead = False

    def die(self) -> None:
        """The process is killed: nothing of it reaches the store any more."""
        self._is_dead = True

    def close(self) -> None:
        """The medium outlives the daemon; whoever has made the store closes it."""

    def _check(self) -> None:
        if self._is_dead or self._weather.store_is_out:
            raise StoreUnavailable("simulated: the store does not answer")

    @contextmanager
    def transaction(self, locks: Sequence[RecordKey] = ()) -> Iterator[WriteTransaction]:
        """A transaction of the real store that may fail at its end, done or undone."""
        self._check()
        with self._store.transaction(locks) as transaction:
            yield transaction
            if self._weather.commits_to_fail:
                self._weather.commits_to_fail -= 1
                raise StoreUnavailable("simulated: the commit failed")
        doubtful = bool(self._weather.commits_to_doubt)
        self._committed("in doubt" if doubtful else "")
        if doubtful:
            self._weather.commits_to_doubt -= 1
            raise StoreUnavailable("simulated: the commit was done, and nobody said so")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  as the store has it
        found = getattr(self._store, name)
        if name in _NEVER_FAIL or not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            self._check()
            return found(*arguments, **named)

        return call

    @property
    def as_store(self) -> Store:
        """What a server takes."""
        return cast(Store, self)
