"""What a server remembers of a device between its sessions (scopes.md sections 7 and 8, auth.md section 5)."""

from __future__ import annotations

from msgspec import Struct


class NodeMemory(Struct, frozen=True):
    """What is known of a node id. Texts that are digests are compared, nothing else.

    `claimed_by` is the user whose device it is: "" for one that only visitors have used, None while nobody has uploaded
    with it. `scope` is the digest of the scopes of its last delivery stream and `floor` that of the log at the time,
    None before there was one. `views` are the digests, with commas between them, of the views that have begun since the
    device had to begin anew in one of them; None while it had not. `settled` is the digest of a view in which the
    device has uploaded all that it wants to, of its operations up to number `settled_upto`.
    """

    claimed_by: str | None = None
    scope: str | None = None
    floor: int = 0
    settled: str | None = None
    settled_upto: int = 0
    views: str | None = None


class NodeNews(Struct, frozen=True):
    """What is to be remembered of a node from now on; None leaves things as they are."""

    node_id: str
    claimed_by: str | None = None
    scope: str | None = None
    floor: int | None = None
    settled: str | None = None
    settled_upto: int | None = None
    views: str | None = None
