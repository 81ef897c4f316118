"""What users have uploaded and no record refers to yet: a bound on what somebody can fill a disk with unseen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from time import monotonic

from msgspec import Struct

from kora_daemon.materialization.blobs import MAX_PARTS as MAX_NAMES_OF_A_USER

MAX_NAMES = 200_000
"""Of all users together; who has uploaded something longest ago is not held to account any more."""
MAX_CHECKED = 500
"""Names asked about in one go."""
CHECK_INTERVAL_S = 1.0


class _Account(Struct):
    sizes: dict[bytes, int] = {}
    coming: set[bytes] = set()
    """What is being stored."""
    parts: dict[bytes, list[bytes]] = {}
    """Manifest -> what it lists, of those that are in `sizes`."""
    used_bytes: int = 0
    checked_at: float = -CHECK_INTERVAL_S


class UnusedBlobs:
    """Holds each user to `max_bytes`, 0 = any number. For any thread.

    `is_settled` says of a hash whether a record refers to it, or it is not kept any more; may raise StoreError. Parts
    are referred to as soon as a manifest is that lists them. It is asked only about users who seem to have too much.
    """

    def __init__(self, max_bytes: int, is_settled: Callable[[str], bool]) -> None:
        self._max_bytes = max_bytes
        self._is_settled = is_settled
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._count = 0
        self._lock = Lock()

    def charge(self, user: str, hexadecimal: str, size_bytes: int) -> bool:
        """A user is about to upload something new; False when it is too much."""
        return (
            not self._max_bytes
            or self._charge(user, hexadecimal, size_bytes)
            or (self._settle(user) and self._charge(user, hexadecimal, size_bytes))
        )

    def refund(self, user: str, hexadecimal: str) -> None:
        """It was not kept, or was not new."""
        with self._lock:
            if user in self._accounts:
                self._forget(self._accounts[user], [bytes.fromhex(hexadecimal)])

    def stored(self, user: str, hexadecimal: str, parts: Sequence[str]) -> None:
        """What a user has uploaded is kept; `parts` is what it lists, if it is a manifest."""
        with self._lock:
            account = self._accounts.get(user)
            if account is not None:
                account.coming.discard(bytes.fromhex(hexadecimal))
                if parts:
                    mine = [one for one in map(bytes.fromhex, parts) if one in account.sizes]
                    account.parts[bytes.fromhex(hexadecimal)] = mine

    def _charge(self, user: str, hexadecimal: str, size_bytes: int) -> bool:
        name = bytes.fromhex(hexadecimal)
        with self._lock:
            account = self._accounts.setdefault(user, _Account())
            self._accounts.move_to_end(user)
            if name in account.sizes:
                return True
            if account.used_bytes + size_bytes > self._max_bytes or len(account.sizes) >= MAX_NAMES_OF_A_USER:
                return False
            account.used_bytes += size_bytes
            account.sizes[name] = size_bytes
            account.coming.add(name)
            self._count += 1
            while self._count > MAX_NAMES and len(self._accounts) > 1:
                _, forgotten = self._accounts.popitem(last=False)
                self._count -= len(forgotten.sizes)
        return True

    def _settle(self, user: str) -> bool:
        """Find out what is referred to meanwhile; False when that was done a moment ago."""
        with self._lock:
            account = self._accounts.get(user)
            if account is None or monotonic() - account.checked_at < CHECK_INTERVAL_S:
                return False
            account.checked_at = monotonic()
            listed = {part for parts in account.parts.values() for part in parts} | account.coming
            doubtful = [*account.parts, *(one for one in account.sizes if one not in listed)][:MAX_CHECKED]
        settled = [name for name in doubtful if self._is_settled(name.hex())]
        with self._lock:
            if self._accounts.get(user) is account:
                self._forget(account, settled)
        return True

    def _forget(self, account: _Account, settled: Iterable[bytes]) -> None:
        for name in settled:
            for one in (name, *account.parts.pop(name, ())):
                account.coming.discard(one)
                if one in account.sizes:
                    account.used_bytes -= account.sizes.pop(one)
                    self._count -= 1
