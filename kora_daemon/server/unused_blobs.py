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
    parts: dict[bytes, list[bytes]] = {}
    """Manifest -> what it lists, of those that are in `sizes`."""
    used_bytes: int = 0
    checked_at: float = 0.0


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

    def allows(self, user: str, size_bytes: int) -> bool:
        """Whether a user may upload so much more."""
        if not self._max_bytes or self._has_room(user, size_bytes):
            return True
        self._settle(user)
        return self._has_room(user, size_bytes)

    def add(self, user: str, hexadecimal: str, size_bytes: int, parts: Sequence[str]) -> None:
        """A user has uploaded something new; `parts` is what it lists, if it is a manifest."""
        if not self._max_bytes:
            return
        name = bytes.fromhex(hexadecimal)
        with self._lock:
            account = self._accounts.setdefault(user, _Account())
            self._accounts.move_to_end(user)
            account.used_bytes += size_bytes - account.sizes.get(name, 0)
            self._count += name not in account.sizes
            account.sizes[name] = size_bytes
            if parts:
                account.parts[name] = [one for one in map(bytes.fromhex, parts) if one in account.sizes]
            while self._count > MAX_NAMES and len(self._accounts) > 1:
                _, forgotten = self._accounts.popitem(last=False)
                self._count -= len(forgotten.sizes)

    def _has_room(self, user: str, size_bytes: int) -> bool:
        with self._lock:
            account = self._accounts.get(user)
            return account is None or (
                account.used_bytes + size_bytes <= self._max_bytes and len(account.sizes) < MAX_NAMES_OF_A_USER
            )

    def _settle(self, user: str) -> None:
        """Find out what is referred to meanwhile."""
        with self._lock:
            account = self._accounts.get(user)
            if account is None or monotonic() - account.checked_at < CHECK_INTERVAL_S:
                return
            account.checked_at = monotonic()
            listed = {part for parts in account.parts.values() for part in parts}
            doubtful = [*account.parts, *(one for one in account.sizes if one not in listed)][:MAX_CHECKED]
        settled = [name for name in doubtful if self._is_settled(name.hex())]
        with self._lock:
            if self._accounts.get(user) is account:
                self._forget(account, settled)

    def _forget(self, account: _Account, settled: Iterable[bytes]) -> None:
        for name in settled:
            for one in (name, *account.parts.pop(name, ())):
                if one in account.sizes:
                    account.used_bytes -= account.sizes.pop(one)
                    self._count -= 1
