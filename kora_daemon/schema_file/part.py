"""A value of a schema file that knows its place, and notes what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from itertools import islice
from typing import Any

from kora_daemon.config.nearest import nearest_name
from kora_daemon.model.jsvalue import JsonValue, canonical_json, has_lone_surrogate

_ABSENT = object()
_PLAIN_NAME = re.compile("[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS = 60
_NAMES_LISTED = 20


class Notes:
    """What is wrong with one file: `problems` has a sentence for each thing.

    `source` is the file's name, `object_word` what its format calls a mapping.
    """

    def __init__(self, source: str, object_word: str) -> None:
        self.problems: list[str] = []
        self.object_word = object_word
        self._source = source

    def add(self, path: str, sentence: str) -> None:
        """Note a problem of the value at a path."""
        place = f"{path} ({self._source})" if path else self._source
        self.problems.append(f"{place}: {sentence}")


class Part:
    """A value, or the lack of one. Null counts as lack.

    Reading one never raises: what does not fit is noted, and something empty is returned in its place.
    """

    __slots__ = ("_notes", "_path", "value")

    def __init__(self, notes: Notes, value: object = _ABSENT, path: str = "") -> None:
        self.value: Any = value
        self._notes = notes
        self._path = path

    @property
    def is_given(self) -> bool:
        """Whether there is a value."""
        return self.value is not None and self.value is not _ABSENT

    def refuse(self, sentence: str) -> None:
        """Note a problem with this value."""
        self._notes.add(self._path, sentence)

    def unfit(self, expected: str) -> None:
        """Note that it is not what was expected."""
        found = "is missing" if self.value is _ABSENT else f"found {self._shown()}"
        self.refuse(f"{found}, expected {expected}")

    def reading(self, value: object) -> Part:
        """A value that is read out of this one, or is its key: it has the same place."""
        return self._inner(value, self._path)

    def table(self, content: str) -> dict[str, Part]:
        """Its members. `content` completes "expected a table of …"."""
        if not isinstance(self.value, dict):
            self.unfit(f"{self._notes.object_word} of {content}")
            return {}
        return {name: self._inner(one, _key_path(self._path, name)) for name, one in self.value.items()}

    def members(self, content: str, *known: str) -> dict[str, Part]:
        """Its members under these keys, missing ones too; other keys are refused. `content` as for `table`."""
        given = self.table(content)
        for name, one in given.items():
            one.check_key(name, known, "key")
        return {name: given.get(name) or self._inner(_ABSENT, _key_path(self._path, name)) for name in known}

    def check_key(self, key: str, known: Collection[str], what: str) -> None:
        """Check the key that this value stands under. `what` completes "there is no such …"."""
        if key not in known:
            self.refuse(f"there is no such {what}; {_help(key, known) or f'expected {_listed(known)}'}")

    def elements(self, expected: str) -> list[Part]:
        """The elements of a list; of none when there is no value."""
        if not self.is_given:
            return []
        if not isinstance(self.value, list):
            self.unfit(expected)
            return []
        return [self._inner(one, f"{self._path}[{index}]") for index, one in enumerate(self.value)]

    def text(self, expected: str, *, least: int = 1) -> str:
        """A text of whole characters, `least` of them or more."""
        if isinstance(self.value, str) and len(self.value) >= least and not has_lone_surrogate(self.value):
            return self.value
        self.unfit(expected)
        return ""

    def flag(self) -> None:
        """Check that it is true or false, if it is given."""
        if self.is_given and not isinstance(self.value, bool):
            self.unfit("true or false")

    def one_of(self, names: Collection[str], expected: str) -> str | None:
        """One of some names. `expected` says what they are, "a kind"."""
        if isinstance(self.value, str) and self.value in names:
            return self.value
        nearest = _help(self.value, names) if isinstance(self.value, str) else None
        self.unfit(f"{expected}; {nearest}" if nearest else f"{expected}: {_listed(names)}")
        return None

    def json(self) -> JsonValue:
        """Any JSON value that can be written down again; TOML's dates and `nan`, and half characters, can't."""
        if not self.is_given:
            return None
        try:
            json.dumps(self.value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            self.unfit("a value that can be written in JSON")
            return None
        value: JsonValue = self.value
        return value

    def _inner(self, value: object, path: str) -> Part:
        return Part(self._notes, value, path)

    def _shown(self) -> str:
        if isinstance(self.value, dict | list):
            word = self._notes.object_word if isinstance(self.value, dict) else "a list"
            return word if self.value else f"an empty {word.split()[1]}"
        if self.value is None or isinstance(self.value, bool | str):
            text = canonical_json(self.value)
        else:
            text = f"{self.value}"
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def shown_name(name: str) -> str:
    """A name as it can stand in a sentence and in a path: quoted if it has to be."""
    return name if _PLAIN_NAME.fullmatch(name) else canonical_json(name)


def _key_path(path: str, name: str) -> str:
    return f"{path}.{shown_name(name)}" if path else shown_name(name)


def _help(unknown: str, names: Collection[str]) -> str | None:
    nearest = nearest_name(unknown, names)
    return f"did you mean {shown_name(nearest)}?" if nearest else None


def _listed(names: Collection[str]) -> str:
    listed = ", ".join(shown_name(name) for name in islice(names, _NAMES_LISTED))
    return f"one of {listed}" + (", …" if len(names) > _NAMES_LISTED else "")
