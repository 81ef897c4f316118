"""All targets."""

from __future__ import annotations

from tests.fuzz import codecs, files, frames, requests, sessions, tokens
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    one.name: one for family in (frames, codecs, sessions, requests, files, tokens) for one in family.TARGETS
}
