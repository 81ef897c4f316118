"""What must be true once the troubles are over and everything has come to rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kora_daemon.model.record import RecordQuery
from kora_daemon.server.status import Status
from kora_daemon.torture.client import Client
from kora_daemon.torture.fold import Sent, folded
from kora_daemon.torture.people import FIELDS
from kora_daemon.torture.witness import Key, Witness


def has_everything(client: Client, witness: Witness) -> bool:
    """Whether a client holds all that it may see, and the server all that the client has made."""
    return client.is_idle and not _lacks(client, witness) and client.log.keys() <= witness.by_id.keys()


def _lacks(client: Client, witness: Witness) -> set[str]:
    visible = {name for name, one in witness.by_id.items() if witness.sees(client, one)}
    return visible - client.log.keys() - client.disowned


def judge(witness: Witness, clients: Sequence[Client], status: Status) -> None:
    """Complain to the witness about everything that is not as it must be."""
    for client in clients:
        _judge_client(client, witness)
    _judge_log(witness, status)
    _judge_records(witness)


def _judge_client(client: Client, witness: Witness) -> None:
    name = client.node_id
    if not client.is_idle:
        witness.complain(f"{name} does not come to rest")
    if lacks := _lacks(client, witness):
        witness.complain(f"{name} never gets {sorted(lacks)}")
    for one in client.log.keys() - witness.by_id.keys():
        witness.complain(f"{name} has {one}, which is not stored")
    for one in client.log.keys() & witness.by_id.keys():
        if not witness.sees(client, witness.by_id[one]):
            witness.complain(f"{name} has {one}, which is out of its scope")
    if client.has_watermark:
        places = [witness.by_id[one].sequence for one in client.taken if one in witness.by_id]
        if any(first >= second for first, second in pairwise(places)):
            witness.complain(f"{name} has taken operations twice, or not in the order of the log: {places}")


def _judge_log(witness: Witness, status: Status) -> None:
    store, count = witness.store, len(witness.log)
    found = [entry.operation.id for entry in store.entries_after(0, 100_000)]
    if found != [one.operation["id"] for one in witness.log]:
        witness.complain(f"the log holds {found}, and not what was committed")
    if (counted := store.count_operations()) != count:
        witness.complain(f"{count} operations are counted as {counted}")
    if status.total_operations != count:
        witness.complain(f"the status counts {status.total_operations} of {count} operations")
    if status.frontier != (witness.log[-1].sequence if witness.log else 0):
        witness.complain(f"the frontier is {status.frontier}")
    if (vector := store.version_vector()) != witness.largest:
        witness.complain(f"the version vector is {vector}, expected {witness.largest}")
    if status.store_failure is not None:
        witness.complain(f"the writer still says: {status.store_failure}")


def _judge_records(witness: Witness) -> None:
    by_record: dict[Key, list[Sent]] = {}
    for one in witness.log:
        by_record.setdefault(one.key, []).append(one.operation)
    for collection, fields in FIELDS.items():
        expected = [folded(ones, fields) for key, ones in sorted(by_record.items()) if key[0] == collection]
        for deleted in (False, True):
            rows = witness.store.query_collection(collection, RecordQuery(order_by="id", include_deleted=deleted))
            wanted = [_shown(one) for one in expected if deleted or not one["_deleted"]]
            if rows != wanted:
                witness.complain(f"the records of {collection} are {rows}, expected {wanted}")


def _shown(row: Sent) -> Sent:
    return {name: value for name, value in row.items() if name != "_deleted"}
