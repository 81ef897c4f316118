"""A judge on a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kora_daemon.model.schema import Schema
from tests.support.judging import JUDGED_ON, Judge, MakeJudge
from tests.support.records import Node


@pytest.fixture(params=JUDGED_ON)
def judge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeJudge]:
    """Makes a judge: called with a schema and how many levels deletes go down."""
    made: list[Judge] = []

    def make(schema: Schema | None = None, levels: int = 1) -> Judge:
        made.append(Judge.on(request.param, tmp_path, schema, levels))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.fixture
def node() -> Node:
    return Node()
