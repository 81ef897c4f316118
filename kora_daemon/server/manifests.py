"""Which manifests users were given: parts of a large blob are in no record, but in its manifest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kora_daemon.materialization.blobs import MAX_PARTS as MAX_PARTS_OF_A_USER

MAX_PARTS = 200_000
"""Of all users together; who was given a manifest longest ago loses its own first."""


class HandedManifests:
    """Part -> manifest, for each user: what one user does makes no other lose anything but for the limit of all."""

    def __init__(self) -> None:
        self._parts: OrderedDict[str, dict[bytes, str]] = OrderedDict()
        self._count = 0

    def learn(self, user: str, manifest: str, parts: Sequence[str]) -> None:
        """A user was given a manifest that lists these parts."""
        if not parts:
            return
        known = self._parts.pop(user, {})
        self._count -= len(known)
        if len(known) + len(parts) > MAX_PARTS_OF_A_USER:
            known = {}
        known |= dict.fromkeys(map(bytes.fromhex, parts), manifest)
        self._parts[user] = known
        self._count += len(known)
        while self._count > MAX_PARTS:
            _, forgotten = self._parts.popitem(last=False)
            self._count -= len(forgotten)

    def names_of(self, user: str, hexadecimal: str) -> frozenset[str]:
        """The hashes by which records may refer to what a user asks for: itself, and a manifest that lists it."""
        manifest = self._parts.get(user, {}).get(bytes.fromhex(hexadecimal))
        return frozenset([hexadecimal] if manifest is None else [hexadecimal, manifest])
