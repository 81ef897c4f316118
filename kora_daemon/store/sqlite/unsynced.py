"""Delivery sequences that a power loss may have taken, where commits do not wait for the disk: none is given twice.

A device that has heard of operations 101 to 105 asks for what comes after 105. Were they lost with the power, and their
numbers given to others, it would never hear of those. So a machine that was started anew begins behind a gap.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import apsw

from kora_daemon.store.record_queries import SET_META

GAP = 1 << 24
"""More than is committed between two checkpoints, and so rare that numbers never become large."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNKNOWN = uuid.uuid4().hex
"""Where the system has no such id, every process begins behind a gap."""
_GET = "SELECT value FROM kora_meta WHERE key = ?"
_FORGET = "DELETE FROM kora_meta WHERE key = ?"
_BOOT, _GIVEN = "unsynced_boot", "given"
_RAISE_GIVEN = f"""
    INSERT INTO kora_meta (key, value)
    SELECT '{_GIVEN}', max(
        coalesce((SELECT max(delivery_seq) FROM operations), 0),
        coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = 'floor'), 0),
        coalesce((SELECT CAST(value AS INTEGER) FROM kora_meta WHERE key = '{_GIVEN}'), 0)
    ) + {GAP}
    WHERE true ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""  # noqa: S608


def leave_gap(connection: apsw.Connection, *, waits_for_disk: bool) -> None:
    """Note under which boot of this machine commits may be lost, and leave a gap behind those of another one.

    Inside a transaction that itself waits for the disk.
    """
    now = boot_id()
    before = next((str(value) for (value,) in connection.execute(_GET, (_BOOT,))), None)
    if before not in (None, now):
        connection.execute(_RAISE_GIVEN)
        connection.execute(_FORGET, (_BOOT,))
    if not waits_for_disk and before != now:
        connection.execute(SET_META, (_BOOT, now))


def boot_id() -> str:
    """Tells one start of this machine from another."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return _UNKNOWN
