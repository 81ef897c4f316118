"""The same campaign guided by coverage: atheris (libFuzzer) keeps the inputs that reach something new.

Slower for each input and not repeatable to the letter, so it is for finding, not for the suite. It has to see the
daemon being imported, so nothing of it may be imported before.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.campaign import Campaign
from tests.fuzz.target import Target

_INSTRUMENTED = ["kora_daemon", "h11", "json", "tomllib", "urllib.parse", "email"]


def guided(name: str, count: int, seed: int, begin: Callable[[Target], Campaign], done: Callable[[], None]) -> None:
    """So many inputs for a target; never returns. `done` is called behind the last one, and has to end the process."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    campaign = begin(target)
    corpus = Path(tempfile.mkdtemp(prefix="kora-fuzz-corpus-"))
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)

    taken = itertools.count(1)

    def take(data: bytes) -> None:
        campaign.take(data)
        if next(taken) == count:
            done()

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        return target.mutate(data, Random(number))[:max_size]

    # The limits of time and memory are ours, see `campaign`.
    options = [f"-seed={seed}", "-max_len=262144", "-len_control=0", "-timeout=0", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], take, custom_mutator=mutate)
    atheris.Fuzz()
