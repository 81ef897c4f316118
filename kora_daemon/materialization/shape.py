"""What the rows of a collection's table are made of, as the database remembers it beside the table.

States (`fold.RecordState`) know no schema; rows are states seen through a shape. The shape in the database is the one
that counts, for every server that writes to it: so old and new servers can work side by side while a schema changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from kora_daemon.model.schema import Collection, Kind

RefillSource = Literal["log", "states"]
"""From what rows are made again: the whole log, or the states kept beside them."""


class Shape(Struct, frozen=True, omit_defaults=True):
    """The fields of a collection's rows and their kinds, in schema order; `version` is the schema's.

    `table_fingerprint` tells whether the table itself is up to date, see `model.schema.Collection.fingerprint`.
    """

    version: int
    kinds: dict[str, Kind]
    table_fingerprint: str
    scoped: list[str] = []
    """Fields that scopes are decided by: stamped whatever their length, again when they change, and indexed."""
    blobs: list[str] = []
    """Fields whose references to blobs are in the scope index."""

    def scoped_before(self, added: Iterable[str]) -> bool:
        """Whether none of the fields that scopes are decided by is among those that were `added`."""
        return not set(added) & set(self.scoped)


class Refill(Struct, frozen=True):
    """Rows of a collection that are still to be made: those with an id above `after`, all while it is None.

    `added` are fields that the operations stored so far know nothing of in their stamps.
    """

    source: RefillSource
    after: str | None = None
    added: list[str] = []

    def covers(self, record_id: str) -> bool:
        """Whether the state of a record is saved already, or was all along."""
        return self.source == "states" or (self.after is not None and record_id <= self.after)


def shape_of(collection: Collection, version: int) -> Shape:
    """The shape that a schema of this version gives to a collection."""
    kinds = {name: field.kind for name, field in collection.fields.items()}
    blobs = [name for name, kind in kinds.items() if kind == "blob"]
    return Shape(version, kinds, collection.fingerprint, list(collection.scoped), blobs)


def agreed_shape(present: Shape, wanted: Shape) -> Shape:
    """What the rows are to be made of when the database has `present` and a schema wants `wanted`.

    A schema as new as the present one, or newer, decides. An older one adds what is missing and leaves the rest to the
    newer server that runs, or has run, beside it.
    """
    if wanted.version >= present.version:
        return wanted
    missing = {name: kind for name, kind in wanted.kinds.items() if name not in present.kinds}
    scoped = [*present.scoped, *(name for name in wanted.scoped if name not in present.scoped)]
    blobs = [*present.blobs, *(name for name in wanted.blobs if name not in present.blobs)]
    return replace(present, kinds=present.kinds | missing, scoped=scoped, blobs=blobs)


def planned_refill(present: Shape | None, agreed: Shape, pending: Refill | None, *, rows_lost: bool) -> Refill | None:
    """What has to be made again when the rows go from one shape to another; `pending` has not been finished yet.

    `rows_lost` says that the table's rows have to be written anyway. None: the rows are right as they are.
    """
    if present is None:
        return Refill("log")
    indexed = {*agreed.scoped, *agreed.blobs} - {*present.scoped, *present.blobs}
    added = sorted(agreed.kinds.keys() - present.kinds.keys() | indexed)
    same_kinds = {*present.kinds.items()} == {*agreed.kinds.items()} and not added
    if same_kinds and not rows_lost:
        return pending
    if pending is None:
        return Refill("states", None, added)
    return Refill(pending.source, None, sorted({*pending.added, *added}))


encode_shape = msgspec.json.Encoder().encode
decode_shape = msgspec.json.Decoder(Shape).decode
decode_refill = msgspec.json.Decoder(Refill).decode
