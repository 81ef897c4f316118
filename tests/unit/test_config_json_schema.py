"""The JSON Schema for editors: it refuses nothing that the loader takes, and the same sorts of values as the loader."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from kora_daemon.config import Settings
from kora_daemon.config.json_schema import SCHEMA_FILE, config_schema, config_schema_text
from kora_daemon.config.keys import Key, Table, declared_in, walk
from kora_daemon.config.reader import Reader
from kora_daemon.config.toml_text import toml_text
from kora_daemon.version import VERSION
from koractl.app import main

ROOT = Path(__file__).parents[2]
SCHEMA = config_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
KEYS = {path: one for path, one in walk(Settings) if isinstance(one, Key)}
TABLES = {path: one for path, one in walk(Settings) if isinstance(one, Table)}
ENVIRONMENT = {"NAME": "1"}
VALUES: tuple[Any, ...] = (
    "",
    "x",
    "x" * 40,
    "${NAME}",
    "a ${NAME:-b} c",
    "$${NAME}",
    -1,
    0,
    1,
    2**31,
    2**60,
    -0.5,
    0.5,
    1e9 + 0.5,  # a whole 1e9 is an integer to JSON, and none to TOML
    True,
    False,
    datetime.date(2026, 1, 2),
    [],
    ["x"],
    ["x" * 40],
    ["${NAME}"],
    [1],
    [True],
    [["x"]],
    [{}],
    {},
    {"a": "x"},
    {"a": 1},
    {"a": []},
    {"a": {}},
    {"a": {"b": "x"}},
    {"a": {"b": {}}},
)


def sort(value: object) -> str:
    """What TOML calls a value."""
    return "list" if isinstance(value, list) else type(value).__name__


def document_with(path: str, value: Any) -> dict[str, Any]:
    """A document in which the value stands at a path, and beside it in its table what that can't do without."""
    head, _, name = path.rpartition(".")
    if not head:
        return {name: value}
    table = TABLES[head.removesuffix("[]")]
    needed = {key: one.example for key, one in declared_in(table.cls).items() if isinstance(one, Key) and one.required}
    filled = needed | {name: value}
    return document_with(head.removesuffix("[]"), [filled] if head.endswith("[]") else filled)


class Judges:
    """The loader and the schema, asked the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # For keys that name what is on the disk.
        (folder / "dist").mkdir()
        for key in KEYS.values():
            if isinstance(key.example, str) and "/" not in key.example:
                (folder / key.example).touch()

    def loader_takes(self, document: dict[str, Any], path: str) -> bool:
        """Whether the loader has nothing against the value at a path."""
        reader = Reader(self._folder / "kora.toml", ENVIRONMENT)
        reader.settings(document)
        indexed = path.replace("[]", "[0]")
        return not any(one == indexed or one.startswith((f"{indexed}.", f"{indexed}[")) for one in reader.broken)

    def schema_takes(self, document: dict[str, Any], path: str) -> bool:
        """Whether the schema has nothing against it; others in the document don't count."""
        wanted = re.split(r"[.\[]", path.replace("[]", "[0"))
        places = [[str(part) for part in error.absolute_path] for error in VALIDATOR.iter_errors(document)]
        return not any(place[: len(wanted)] == wanted for place in places)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    return Judges(tmp_path_factory.mktemp("judges"))


def test_it_is_a_schema_of_its_dialect_and_reads_the_same_in_an_older_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft7Validator.check_schema(SCHEMA)
    for document in ({}, {"server": {"port": 1}}, {"server": {"port": "x"}}, {"prot": 1}, {"log": {"level": "inf"}}):
        assert VALIDATOR.is_valid(document) == Draft7Validator(SCHEMA).is_valid(document)


def test_it_names_its_version() -> None:
    assert SCHEMA["$id"].endswith(f":{VERSION}")


def test_the_file_beside_the_samples_is_up_to_date() -> None:
    """`python -m kora_daemon.config.reference` in the repository writes it again."""
    assert (ROOT / "config" / SCHEMA_FILE).read_text() == config_schema_text()


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["config", "schema"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == SCHEMA


def _described(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, one in schema["properties"].items():
        here = f"{path}.{name}" if path else name
        yield here, one
        if one.get("type") == "object" and "properties" in one:
            yield from _described(one, here)
        elif one.get("type") == "array" and "properties" in one["items"]:
            yield from _described(one["items"], f"{here}[]")


def test_it_has_every_key_with_a_title_a_description_and_its_default() -> None:
    described = dict(_described(SCHEMA))
    assert set(described) == {path for path, _ in walk(Settings)}
    for path, key in KEYS.items():
        assert described[path]["title"] == path
        assert described[path]["description"].startswith(key.doc)
        assert described[path].get("default") == (None if key.default is None else key.kind.dump(key.default))
    for path, table in TABLES.items():
        assert described[path]["description"] == table.doc


@pytest.mark.parametrize("path", sorted(KEYS))
def test_what_the_schema_refuses_the_loader_refuses_and_both_take_the_same_sorts(judges: Judges, path: str) -> None:
    key = KEYS[path]
    own = [key.example if key.default is None else key.kind.dump(key.default)]
    sorts = set()
    for value in (*own, *VALUES):
        document = document_with(path, value)
        if judges.loader_takes(document, path):
            assert judges.schema_takes(document, path), f"the schema refuses {toml_text(value)}"
            if value in own or "${" not in str(value):
                sorts.add(sort(value))
    for value in VALUES:
        if sort(value) not in sorts and "${" not in str(value):
            assert not judges.schema_takes(document_with(path, value), path), f"the schema takes {toml_text(value)}"


TOML = st.recursive(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(["${NAME}", "a:b", "https://h/", "RS256", "full", "/x", "sqlite:x", "host=x", "0" * 64]),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(path=st.sampled_from(sorted(KEYS)), value=TOML)
def test_whatever_the_loader_takes_the_schema_takes_too(judges: Judges, path: str, value: Any) -> None:
    document = document_with(path, value)
    assert judges.schema_takes(document, path) or not judges.loader_takes(document, path)


@pytest.mark.parametrize("path", sorted(TABLES))
@pytest.mark.parametrize("value", ["x", 1, True, [], [1], {}])
def test_a_table_is_a_table_for_both(judges: Judges, path: str, value: Any) -> None:
    document = document_with(path, value)
    # What a table can't do without, both miss, one of them below the table.
    if value != {}:
        assert judges.loader_takes(document, path) == judges.schema_takes(document, path)


@pytest.mark.parametrize(
    "toml",
    [
        "prot = 1",
        "[servr]",
        "[server]\nprot = 1",
        "[[routes]]\npath = '/a'\npython = 'a:b'\nx = 1",
        "[[routes]]\npath = '/a'",
        "[static]",
        "[auth.jwt]\nsecret = 'x'",
        "[[auth.tokens]]\ntoken = 'x'",
        "[auth.scopes]\ntodos = 5",
    ],
)
def test_unknown_and_missing_keys_are_refused_by_both(judges: Judges, toml: str, tmp_path: Path) -> None:
    document = tomllib.loads(toml)
    reader = Reader(tmp_path / "kora.toml", {})
    reader.settings(document)
    assert reader.problems
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.toml")), ids=lambda file: file.name)
def test_every_sample_fits_and_names_the_schema(file: Path) -> None:
    text = file.read_text()
    assert text.splitlines()[0] == f"#:schema {SCHEMA_FILE}"
    VALIDATOR.validate(tomllib.loads(text))
    if file.name == "kora.toml":
        VALIDATOR.validate(tomllib.loads(re.sub(r"(?m)^#(?=\[|\w+ = )", "", text)))


def test_every_configuration_in_the_documents_fits() -> None:
    judged = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        for text in re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            document = tomllib.loads(text)
            if "version" not in document:  # else it is a schema of an app
                VALIDATOR.validate(document)
                judged += 1
    assert judged > 10
