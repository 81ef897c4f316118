"""What operators hand in: configuration, schemas, backups."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
import struct
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

import tomli_w

from kora_daemon.backup import BackupError
from kora_daemon.backup.lines import operation_line
from kora_daemon.backup.reading import _read_closely, _read_fast, read_operation
from kora_daemon.backup.verify import verify_backup
from kora_daemon.config.load import load_settings
from kora_daemon.config.shown import effective_toml
from kora_daemon.errors import ConfigError
from kora_daemon.materialization.columns import Dialect
from kora_daemon.materialization.upgrade import plan_upgrade
from kora_daemon.schema_file import load_schema
from tests.fuzz import seeds
from tests.fuzz.codecs import is_exact
from tests.fuzz.mutation import json_bytes, mutated_bytes, mutated_json, mutated_lines, mutated_text
from tests.fuzz.target import Disagreement, Target, same
from tests.support.operations import described

ROOT = Path(__file__).parents[2]
_HEADER = struct.Struct("<II")
_WORDS = [b"[[auth.jwt]]\n", b"= true", b"= -1", b'= "x"', b"= []", b"= {}", b"${HOME}", b"${X:-", b"= 1e400", b"'''"]
_ENVIRONMENT = b"\n# environment: "


@cache
def _folder() -> Path:
    """Where inputs become files; gone with the process."""
    made = tempfile.TemporaryDirectory(prefix="kora-fuzz-", ignore_cleanup_errors=True)
    _KEPT.append(made)
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def run_config(data: bytes) -> None:
    """A configuration file; comments at its end are the environment."""
    _, *variables = data.split(_ENVIRONMENT)
    texts = (line.split(b"\n")[0].decode("utf-8", "replace").replace("\0", "") for line in variables)
    environ = dict(text.split("=", 1) for text in texts if "=" in text)
    try:
        settings = load_settings(_file("kora.toml", data), environ)
    except ConfigError as error:
        _sentences(error)
        return
    tomllib.loads(effective_toml(settings))


def _sentences(error: ConfigError) -> None:
    if not error.problems:
        raise Disagreement("refused without a reason")
    for problem in error.problems:
        problem.encode()


def _seeds_of_config() -> list[bytes]:
    samples = [path.read_bytes() for path in sorted((ROOT / "config").glob("*.toml"))]
    # The reference names every key behind a comment mark: without the marks it is a file with all of them.
    everything = re.sub(rb"(?m)^# ?(?=[a-z_]+ = |\[)", b"", (ROOT / "config" / "kora.toml").read_bytes())
    return [
        *samples,
        everything,
        everything + _ENVIRONMENT + b"KORA_SERVER_PORT=1" + _ENVIRONMENT + b"KORA_LOG_LEVEL=x",
    ]


def _mutated_config(data: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        words = [
            b"[[auth.jwt]]\n",
            b"= true",
            b"= -1",
            b'= "x"',
            b"= []",
            b"= {}",
            b"${HOME}",
            b"${X:-",
            b"= 1e400",
            b"'''",
        ]
        return mutated_lines(data, random, lambda line, random: mutated_bytes(line, random, words), _keys(data))
    try:
        document = tomllib.loads(data.decode())
        changed = json.loads(mutated_json(json.dumps(document, default=str).encode(), random))
        return tomli_w.dumps(changed).encode("utf-8", "replace")
    except (ValueError, TypeError, RecursionError, AttributeError):
        return mutated_bytes(data, random)


def _keys(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n")[:400] if b"=" in line or line.startswith(b"[")]


def run_schema(data: bytes) -> None:
    """A schema file in JSON. What is taken makes tables that SQLite takes, too."""
    _run_schema(_file("schema.json", data))


def run_schema_toml(data: bytes) -> None:
    """The same in TOML."""
    _run_schema(_file("schema.toml", data))


def _run_schema(path: Path) -> None:
    try:
        schema = load_schema(path)
    except ConfigError as error:
        _sentences(error)
        return
    collections = list(schema.collections.values())
    plan_upgrade(collections, {}, Dialect.POSTGRES)
    with closing(sqlite3.connect(":memory:")) as database:
        for step in plan_upgrade(collections, {}, Dialect.SQLITE):
            for statement in step.statements:
                database.execute(statement)


def _seeds_of_schemas() -> list[bytes]:
    return [path.read_bytes() for path in [*seeds.SCHEMAS, seeds.DATA / "wire" / "schema.json"]]


def _seeds_of_toml_schemas() -> list[bytes]:
    documents = (_without_nulls(json.loads(one)) for one in _seeds_of_schemas())
    return [tomli_w.dumps(one).encode() for one in documents]


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value if one is not None] if isinstance(value, list) else value


def _mutated_toml_schema(data: bytes, random: Random) -> bytes:
    try:
        changed = json.loads(mutated_json(json.dumps(tomllib.loads(data.decode())).encode(), random))
        return tomli_w.dumps(_without_nulls(changed)).encode("utf-8", "replace")
    except (ValueError, TypeError, RecursionError, AttributeError):
        return mutated_bytes(data, random)


def run_lines(data: bytes) -> None:
    """One operation on one line, read in two ways, and written again."""
    try:
        operation = read_operation(data)
    except ValueError as error:
        str(error).encode("utf-8", "replace")
        return
    fast = _read_fast(data)
    if fast is not None and is_exact(fast.timestamp):
        with suppress(ValueError, RecursionError):  # numbers in members that nobody wants
            same(described(fast), described(_read_closely(data.decode())), "the two readings of a line")
    line = operation_line(operation)
    if line.count(b"\n") != 1:
        raise Disagreement("a line of more than one line")
    same(operation_line(read_operation(line[:-1])), line, "a line that was written, read and written again")


def run_backup(data: bytes) -> None:
    """A backup file. What is verified can be read to its end."""
    try:
        backup = verify_backup(BytesIO(data))
    except BackupError as error:
        str(error).encode("utf-8", "replace")
        return
    same(sum(1 for _ in backup.operations()), backup.operation_count, "the number of operations")


@cache
def _seeds_of_backups() -> list[bytes]:
    return [_restored(found) for found in _texts(seeds.vector("backup")) if len(found) > 300 and _is_backup(found)]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _restored(text: str) -> bytes:
    return base64.b64decode(text)


def _is_backup(text: str) -> bool:
    with suppress(ValueError):
        return bool(_sections(base64.b64decode(text, validate=True)))
    return False


def _sections(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of each section; nothing for what is no backup."""
    sections, at = [], 0
    while at + _HEADER.size <= len(data):
        name_size, size = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        sections.append((data[at : at + name_size], data[at + name_size : at + name_size + size]))
        at += name_size + size
    return sections if at == len(data) else []


def _mutated_backup(data: bytes, random: Random) -> bytes:
    """Mostly with checksums and counts that are right again: what is behind them shall be reached."""
    sections = _sections(data)
    if not sections or random.random() < 0.2:
        return mutated_bytes(data, random)
    at = random.randrange(len(sections))
    name, content = sections[at]
    match random.randrange(8):
        case 0:
            del sections[at]
        case 1:
            sections.insert(at, sections[random.randrange(len(sections))])
        case 2:
            sections[at] = (mutated_text(name.decode("utf-8", "replace"), random).encode("utf-8", "replace"), content)
        case _ if name == b"operations":
            sections[at] = (name, mutated_lines(content, random, mutated_json))
        case _:
            sections[at] = (name, mutated_json(content, random))
    return _joined(sections if random.random() < 0.3 else _made_right(sections, random))


def _made_right(sections: list[tuple[bytes, bytes]], random: Random) -> list[tuple[bytes, bytes]]:
    checked = [one for one in sections if one[0] not in (b"manifest", b"checksum")]
    checksum = hashlib.sha256(_joined(checked)).hexdigest()
    lines = next((content for name, content in sections if name == b"operations"), b"").split(b"\n")
    count = sum(1 for line in lines if line.strip(b" \t\r"))
    right = dict.fromkeys([b"checksum"], checksum.encode())
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        manifest = json.loads(dict(sections)[b"manifest"]) | {"checksum": checksum, "operationCount": count}
        right[b"manifest"] = json_bytes(manifest, random)
    return [(name, right.get(name, content)) for name, content in sections]


def _joined(sections: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(_HEADER.pack(len(name), len(content)) + name + content for name, content in sections)


TARGETS = [
    Target("config", run_config, _seeds_of_config, _mutated_config, share=3),
    Target("schema", run_schema, _seeds_of_schemas, mutated_json, share=5),
    Target("schema-toml", run_schema_toml, _seeds_of_toml_schemas, _mutated_toml_schema),
    Target("lines", run_lines, seeds.operations, mutated_json, share=14),
    Target("backup", run_backup, _seeds_of_backups, _mutated_backup, share=12),
]
