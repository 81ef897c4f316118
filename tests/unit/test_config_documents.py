"""The samples in config/ and docs/configuration.md say what the code does."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kora_daemon.config import Settings, load_settings
from kora_daemon.config.keys import Key, Table, environment_name, walk
from kora_daemon.config.reader import Reader
from kora_daemon.config.reference import reference_markdown, sample_toml
from kora_daemon.config.toml_text import toml_text
from kora_daemon.model.scope import READ_ONLY
from koractl.checks import check_settings

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
ENVIRONMENT = {"DATABASE_URL": "postgresql://db/kora", "KORA_ADMIN_TOKEN": "t", "KORA_AUTH_SECRET": "s" * 32}
KEYS = {path: one for path, one in walk(Settings) if isinstance(one, Key)}


def test_the_sample_is_the_one_that_kora_init_writes_and_both_are_up_to_date() -> None:
    """`python -m kora_daemon.config.reference` in the repository writes it again."""
    assert (CONFIG / "kora.toml").read_text() == sample_toml()
    for name in ("kora.toml", "schema.json"):
        assert (CONFIG / name).read_bytes() == (ROOT / "koractl" / "samples" / name).read_bytes()


def test_the_reference_is_up_to_date() -> None:
    """`python -m kora_daemon.config.reference` in the repository writes it again."""
    assert (ROOT / "docs" / "configuration.md").read_text() == reference_markdown()


def test_the_reference_has_every_key_with_its_default_its_variable_and_whether_it_is_live() -> None:
    section = ""
    documented: dict[str, tuple[str, str, str]] = {}
    for line in (ROOT / "docs" / "configuration.md").read_text().splitlines():
        if heading := re.fullmatch(r"## `(\[+)(.*?)\]+`", line):
            section = heading[2] + ("[]." if heading[1] == "[[" else ".")
        if row := re.match(r"\| `(\w+)` \| .*? \| (.*?) \| (.*?) \| (yes|no) \| ", line):
            documented[section + row[1]] = (row[2], row[3], row[4])

    assert list(documented) == list(KEYS)
    for path, (default, variable, live) in documented.items():
        key = KEYS[path]
        if key.default is not None:
            assert default == f"`{toml_text(key.kind.dump(key.default))}`"
        assert variable == (f"`{environment_name(path)}`" if environment_name(path) else "")
        assert live == ("yes" if key.live else "no")


def test_the_sample_as_it_stands_means_all_defaults() -> None:
    settings = load_settings(CONFIG / "kora.toml", {})
    defaults = Settings()
    assert settings == replace(
        defaults,
        source=settings.source,
        store=replace(defaults.store, path=CONFIG / "kora.db"),
        blobs=replace(defaults.blobs, path=CONFIG / "blobs"),
    )


def test_the_sample_has_every_key_and_every_example_in_it_is_of_its_kind() -> None:
    uncommented = re.sub(r"(?m)^#(?=\[|\w+ = )", "", (CONFIG / "kora.toml").read_text())
    document = tomllib.loads(uncommented)
    assert set(_paths(document, "")) == {path for path, _ in walk(Settings)}

    environ = dict.fromkeys(re.findall(r"\$\{(\w+)}", uncommented), "x" * 32)
    reader = Reader(CONFIG / "kora.toml", environ)
    reader.settings(document)
    assert [one for one in reader.problems if "a file that can be read" not in one and "a folder" not in one] == []


def _paths(document: dict[str, Any], path: str) -> Iterator[str]:
    tables = {one: declared for one, declared in walk(Settings) if isinstance(declared, Table)}
    for name, value in document.items():
        here = f"{path}{name}"
        yield here
        if here in tables and isinstance(value, list):
            yield from _paths(value[0], f"{here}[].")
        elif here in tables:
            yield from _paths(value, f"{here}.")


def test_what_a_first_user_gets_can_be_served_as_it_is() -> None:
    for name in ("kora.toml", "sqlite.toml"):
        assert load_settings(CONFIG / name, {}).store.kind == "sqlite"


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.toml")), ids=lambda file: file.name)
def test_every_sample_can_be_served(file: Path) -> None:
    settings = load_settings(file, ENVIRONMENT)
    assert settings.source == file
    check_settings(settings)


def test_commented_out_tokens_of_the_sqlite_sample_work_when_taken_in(tmp_path: Path) -> None:
    text = (CONFIG / "sqlite.toml").read_text()
    head, tail = text.split("#\n# [auth]")
    file = tmp_path / "kora.toml"
    file.write_text(head + re.sub(r"(?m)^# ?", "", "# [auth]" + tail))
    (token,) = load_settings(file, {"KORA_TOKEN": "t"}).auth.tokens
    assert token.token == "t"


def test_the_scopes_of_the_public_forms_name_what_its_schema_has() -> None:
    auth = load_settings(CONFIG / "public-forms.toml", ENVIRONMENT).auth
    collections = json.loads((CONFIG / "schema.json").read_text())["collections"]
    assert auth.scopes is not None
    assert auth.anonymous is not None
    for scopes in (auth.scopes, auth.anonymous.scopes):
        for name, fields in scopes.items():
            assert fields.keys() - {READ_ONLY} <= collections[name]["fields"].keys()
