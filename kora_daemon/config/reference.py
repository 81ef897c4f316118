"""Writes what documents the configuration, from the table of keys: docs/configuration.md, samples, the JSON Schema.

After a change of keys: `python -m kora_daemon.config.reference` in the repository writes all again; tests compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from kora_daemon.config.json_schema import SCHEMA_FILE, config_schema_text
from kora_daemon.config.keys import Key, Table, declared_in, environment_name
from kora_daemon.config.settings import Settings
from kora_daemon.config.toml_text import toml_text

REFERENCE_HEAD = """\
# Configuration

<!-- Written by `python -m kora_daemon.config.reference`; change the declarations in kora_daemon/config instead. -->

One TOML file. A file with no keys at all is a valid configuration: SQLite beside the file, no auth, no schema. `kora
init` writes one with every key in it, `kora config check` judges one, `kora config show` prints what is in force and
where each value came from.

* Relative paths start in the file's folder.
* `${NAME}` inside any text is taken from the environment, `${NAME:-default}` has a default for an unset or empty
  variable, `$${` is a literal `${`. Text from the environment may stand for a number, true or false, or a list where
  one is expected: `port = "${PORT:-4567}"`. A name that is not in the environment is looked up among the credentials
  that systemd hands over (`LoadCredential=NAME:FILE`) before the default counts.
* A variable `KORA_<TABLE>__<KEY>` overrides its key: `KORA_SERVER__PORT=5000`, `KORA_AUTH__JWT__ISSUER=…`. An empty
  one counts as unset. Lists are TOML (`["a", "b"]`) or have commas (`a,b`); tables are inline TOML
  (`{ todos = {} }`), arrays of tables a TOML list of these. It is taken as it is: `${NAME}` means nothing in it.
* Everything that is wrong is reported at once, with exit status 78. Secrets are never shown.
* Editors that know TOML (Taplo, Even Better TOML, Tombi) complete, explain and check keys by a JSON Schema, which `kora
  config schema > kora.schema.json` writes. The first line of a file names it: `#:schema kora.schema.json`. What keys
  must fulfil together, and files on the disk, `kora config check` looks at.
* A reload (SIGHUP, `systemctl reload kora`) applies what is `live`, without dropping a session, and names what has
  changed besides and needs a restart. A file that a key names has changed when its contents have.
"""

SAMPLE_HEAD = """\
#:schema kora.schema.json
#
# The configuration of Kora Daemon. Every key is here: those with a default have it, the others are commented out with
# an example. Delete what you don't change; an empty file is fine, too.
#
# Relative paths start in this file's folder. ${NAME} and ${NAME:-default} inside a text are taken from the environment,
# and a variable such as KORA_SERVER__PORT overrides its key. `kora config check` judges the file. The first line is for
# editors; `kora config schema` prints what it names.
"""


def reference_markdown() -> str:
    """The text of docs/configuration.md."""
    lines = [REFERENCE_HEAD, *_reference_table(Settings, "", live=False)]
    return "\n".join(lines) + "\n"


def sample_toml() -> str:
    """The text of the sample kora.toml."""
    return "\n".join([SAMPLE_HEAD, *_sample_table(Settings, "", live=True)]) + "\n"


def _keys(cls: type[Any], *, live: bool = False) -> dict[str, Key]:
    return {name: one for name, one in declared_in(cls, live=live).items() if isinstance(one, Key)}


def _below(cls: type[Any], path: str, *, live: bool = False) -> Iterator[tuple[str, str, Table]]:
    """Path, heading and declaration of each table right below."""
    for name, one in declared_in(cls, live=live).items():
        if isinstance(one, Table):
            here = f"{path}.{name}" if path else name
            yield here, f"[[{here}]]" if one.form == "many" else f"[{here}]", one


def _reference_table(cls: type[Any], path: str, *, live: bool) -> Iterator[str]:
    yield from ("| key | value | default | environment | live | meaning |", "| --- | --- | --- | --- | --- | --- |")
    for name, key in _keys(cls, live=live).items():
        variable = _variable(f"{path}.{name}" if path else name)
        cells = (f"`{name}`", key.kind.expects, _default(key), variable, "yes" if key.live else "no", key.doc)
        yield f"| {' | '.join(cells)} |"
    for here, heading, table in _below(cls, path, live=live):
        yield from ("", f"## `{heading}`", "", table.doc, "")
        below = f"{here}[]" if table.form == "many" else here
        yield from _reference_table(table.cls, below, live=bool(table.live))


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return "not set" if key.default is None else f"`{toml_text(key.kind.dump(key.default))}`"


def _variable(path: str) -> str:
    name = environment_name(path)
    return f"`{name}`" if name else ""


def _sample_table(cls: type[Any], path: str, *, live: bool) -> Iterator[str]:
    for name, key in _keys(cls).items():
        yield from _comment(key.doc)
        value = key.example if key.default is None else key.kind.dump(key.default)
        yield f"{'' if live and key.default is not None else '#'}{name} = {toml_text(value)}"
    for here, heading, table in _below(cls, path):
        live_here = live and table.form == "always"
        yield from ("", *_comment(table.doc), f"{'' if live_here else '#'}{heading}")
        yield from _sample_table(table.cls, here, live=live_here)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(text, 117)]


def write_all(root: Path) -> None:
    """Write every document again, below the repository's folder."""
    sample = sample_toml()
    (root / "docs" / "configuration.md").write_text(reference_markdown(), encoding="utf-8")
    (root / "koractl" / "samples" / "kora.toml").write_text(sample, encoding="utf-8")
    (root / "config" / "kora.toml").write_text(sample, encoding="utf-8")
    (root / "config" / SCHEMA_FILE).write_text(config_schema_text(), encoding="utf-8")


if __name__ == "__main__":
    write_all(Path.cwd())
