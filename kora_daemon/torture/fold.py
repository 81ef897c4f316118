"""What records are, by a log (store.md section 5), said once more in the plainest way.

Knows nothing of the code that it is held against: operations are JSON values as they travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Sent = dict[str, Any]


def folded(operations: Iterable[Sent], fields: Sequence[str]) -> Sent:
    """The row of the record that has these operations, in delivery order; `_deleted` says whether it is live."""
    in_order = sorted(operations, key=_clock)
    record: Sent = {}
    writers: dict[str, str] = {}
    live = False
    for one in in_order:
        data = one["data"]
        if one["type"] == "delete":
            live = False
        elif data is not None:
            intents = one.get("atomicOps", {}) if one["type"] == "update" else {}
            before = {} if one["type"] == "insert" else record
            record = {**before, **{name: _written(name, data, intents, before, writers) for name in data}}
            writers |= {name: intents[name]["type"] if name in intents else "plain" for name in data}
            live = True
    row = {"id": in_order[0]["recordId"], **{name: record.get(name) for name in fields}}
    times = {"_created_at": in_order[0]["timestamp"]["wallTime"], "_updated_at": in_order[-1]["timestamp"]["wallTime"]}
    return {**row, **times, "_deleted": not live}


def _written(name: str, data: Sent, intents: Sent, before: Sent, writers: dict[str, str]) -> Any:  # noqa: ANN401
    intent = intents.get(name)
    if intent is None or intent["type"] != "increment" or writers.get(name) != "increment":
        return data[name]
    number = before.get(name)
    return (number if isinstance(number, int | float) else 0) + intent["value"]


def _clock(operation: Sent) -> tuple[int, int, str]:
    stamp = operation["timestamp"]
    return stamp["wallTime"], stamp["logical"], stamp["nodeId"]
