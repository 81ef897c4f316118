"""The hybrid logical clock: text form, order, steps, and the server's check of what arrives (store.md section 1.2)."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable

from kora_daemon.errors import KoraError
from kora_daemon.model.jsvalue import utf16_key
from kora_daemon.model.operation import Timestamp

MAX_LOGICAL = 99_999
WALL_TIME_END_MS = 10**15
INGEST_TOLERANCE_MS = 60_000
"""How far ahead of the server's clock an uploaded timestamp may be."""
REMOTE_TOLERANCE_MS = 5 * 60_000
"""How far ahead of the reference time a timestamp may be that a running clock adopts."""
DRIFT_WARNING_MS = 60_000
DRIFT_ERROR_MS = 5 * 60_000

_TEXT_FORM = re.compile(r"([0-9]{1,16}):([0-9]{1,16}):(.*)", re.DOTALL)

DriftHook = Callable[[int], None]
"""Is told by how many ms the clock is ahead of the reference time."""


class InvalidTimestamp(KoraError):
    """A timestamp that no clock can have produced, or a text that is no timestamp."""


class RemoteClockDrift(KoraError):
    """A remote timestamp too far in the future to be adopted."""


class IngestVerdict(enum.Enum):
    """What the server says about the timestamp of an operation that arrives."""

    OK = enum.auto()
    TOO_FAR_AHEAD = enum.auto()
    """The author's clock is fast: the client corrects it and stamps its queue anew."""
    MALFORMED = enum.auto()
    """No clock reading; refused for good."""


def timestamp_text(timestamp: Timestamp) -> str:
    """Text form, 15 digits : 5 digits : node id. Raises `InvalidTimestamp` when a number does not fit."""
    if not is_reading(timestamp) or timestamp.wall_time >= WALL_TIME_END_MS:
        raise InvalidTimestamp(
            f"found wall time {timestamp.wall_time} and logical {timestamp.logical}, "
            f"expected integers from 0 to {WALL_TIME_END_MS - 1} and from 0 to {MAX_LOGICAL}"
        )
    return f"{timestamp.wall_time:015d}:{timestamp.logical:05d}:{timestamp.node_id}"


def parse_timestamp(text: str) -> Timestamp:
    """Inverse of `timestamp_text`; leading zeros may be missing. Raises `InvalidTimestamp`."""
    match = _TEXT_FORM.fullmatch(text)
    if match is None:
        raise InvalidTimestamp(f"found {text!r}, expected <wall time>:<logical>:<node id>")
    return Timestamp(int(match[1]), int(match[2]), match[3])


def clock_order(timestamp: Timestamp) -> tuple[int, int, bytes]:
    """Sort key of the total order as clients have it: wall time, logical, node id by UTF-16 unit."""
    return (timestamp.wall_time, timestamp.logical, utf16_key(timestamp.node_id))


def is_reading(timestamp: Timestamp) -> bool:
    """Whether wall time and logical are integers that a clock can show."""
    return type(timestamp.wall_time) is int and type(timestamp.logical) is int and _in_range(timestamp)


def _in_range(timestamp: Timestamp) -> bool:
    return timestamp.wall_time >= 0 and 0 <= timestamp.logical <= MAX_LOGICAL


def judge_arrival(timestamp: Timestamp, now_ms: int) -> IngestVerdict:
    """Judge the timestamp of an uploaded operation at server time `now_ms`, in the order of wire.md section 7.

    There is no lower bound on age.
    """
    if type(timestamp.wall_time) is int and timestamp.wall_time > now_ms + INGEST_TOLERANCE_MS:
        return IngestVerdict.TOO_FAR_AHEAD
    return IngestVerdict.OK if is_reading(timestamp) else IngestVerdict.MALFORMED


class HybridClock:
    """A clock whose readings never go back and follow everything it has received.

    Physical time, ms since the epoch, is handed in with each call.
    """

    def __init__(
        self,
        node_id: str,
        *,
        on_drift_warning: DriftHook | None = None,
        on_drift_error: DriftHook | None = None,
    ) -> None:
        self._node_id = node_id
        self._on_drift_warning = on_drift_warning
        self._on_drift_error = on_drift_error
        self._wall_time_ms = 0
        self._logical = 0
        self._reference_offset_ms: int | None = None

    def set_reference_offset(self, offset_ms: int) -> None:
        """Correct physical time by a known offset when drift and remote timestamps are judged."""
        self._reference_offset_ms = offset_ms

    def now(self, physical_ms: int) -> Timestamp:
        """A new reading, later than all before. Drift is reported as the call finds it, never raised."""
        self._report_drift(physical_ms)
        if physical_ms > self._wall_time_ms:
            return self._set(physical_ms, 0)
        return self._set(self._wall_time_ms, self._logical + 1)

    def receive(self, remote: Timestamp, physical_ms: int) -> Timestamp:
        """A new reading, later than all before and than `remote`.

        Raises `InvalidTimestamp` and `RemoteClockDrift`; the clock is then as it was. A fresh clock without a reference
        offset may itself be the one that is wrong: it adopts any remote time and reports no drift.
        """
        if not is_reading(remote):
            raise InvalidTimestamp(f"found remote wall time {remote.wall_time} and logical {remote.logical}")
        fresh = self._wall_time_ms == 0
        ahead_ms = remote.wall_time - self._reference_ms(physical_ms)
        if ahead_ms > REMOTE_TOLERANCE_MS and not (fresh and self._reference_offset_ms is None):
            raise RemoteClockDrift(f"remote clock is {ahead_ms} ms ahead, expected at most {REMOTE_TOLERANCE_MS}")
        reading = self._set(*self._merged(remote, physical_ms))
        if not fresh:
            self._report_drift(physical_ms)
        return reading

    def advance_to(self, timestamp: Timestamp) -> None:
        """Move to `timestamp` unless that is back; a logical beyond the maximum is carried into the wall time."""
        carried_ms, logical = divmod(timestamp.logical, MAX_LOGICAL + 1)
        self._wall_time_ms, self._logical = max(
            (self._wall_time_ms, self._logical), (timestamp.wall_time + carried_ms, logical)
        )

    def _merged(self, remote: Timestamp, physical_ms: int) -> tuple[int, int]:
        own_ms = self._wall_time_ms
        if physical_ms > max(own_ms, remote.wall_time):
            return physical_ms, 0
        if remote.wall_time > own_ms:
            return remote.wall_time, remote.logical + 1
        if remote.wall_time == own_ms:
            return own_ms, max(self._logical, remote.logical) + 1
        return own_ms, self._logical + 1

    def _set(self, wall_time_ms: int, logical: int) -> Timestamp:
        if logical > MAX_LOGICAL:
            wall_time_ms, logical = wall_time_ms + 1, 0
        self._wall_time_ms, self._logical = wall_time_ms, logical
        return Timestamp(wall_time_ms, logical, self._node_id)

    def _reference_ms(self, physical_ms: int) -> int:
        return physical_ms + (self._reference_offset_ms or 0)

    def _report_drift(self, physical_ms: int) -> None:
        drift_ms = self._wall_time_ms - self._reference_ms(physical_ms)
        if drift_ms > DRIFT_ERROR_MS:
            hook = self._on_drift_error
        elif drift_ms > DRIFT_WARNING_MS:
            hook = self._on_drift_warning
        else:
            return
        if hook is not None:
            hook(drift_ms)
