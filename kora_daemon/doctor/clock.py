"""The clock: what it says is written into every operation of the server's own, and judges tokens."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator

from kora_daemon.config import Settings
from kora_daemon.doctor.checks import Check, Finding, fine, warning

_NOT_SYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""
_TIMEX_BYTES = 512
"""More than any `struct timex` has; all zero, it asks and sets nothing."""


def clock(settings: Settings) -> Iterator[Check]:
    """Whether something keeps it right. Beside what the log says of it, see `tables`."""
    del settings
    yield Check("clock.synchronised", _synchronised)


def _synchronised() -> Finding | None:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except AttributeError:  # no Linux
        return None
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if state < 0:  # not allowed here, as in some containers
        return None
    if state == _NOT_SYNCHRONISED:
        return warning(f"it is {now}, and nothing synchronises the clock", "timedatectl set-ntp true, or run chrony")
    return fine(f"it is {now}, synchronised")
