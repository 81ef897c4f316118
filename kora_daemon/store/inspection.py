"""What a look at a database tells, whatever it is: for `kora doctor`."""

from __future__ import annotations

from typing import NamedTuple


class LogFacts(NamedTuple):
    """Of a log: the format of its tables (None: the reference server's), and when its newest operation came in.

    `newest_ms` is the server's clock of that moment, ms since the epoch; None for an empty log.
    """

    format: int | None
    newest_ms: int | None
