"""`kora init` (config.md, The command kora)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kora_daemon.config import load_settings
from kora_daemon.config.json_schema import config_schema
from koractl.app import main

Captured = pytest.CaptureFixture[str]


def init(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["init", *arguments])
    return int(exit_.value.code or 0)


def test_it_writes_a_file_that_can_be_served_and_says_how(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "my app"
    assert init(str(folder)) == 0

    assert load_settings(folder / "kora.toml", {}).store.path == folder / "kora.db"
    assert json.loads((folder / "schema.json").read_text())["version"] == 1
    assert json.loads((folder / "kora.schema.json").read_text()) == config_schema()
    assert capsys.readouterr().out.splitlines() == [
        f"Wrote {folder}/kora.toml.",
        f"Wrote {folder}/kora.schema.json.",
        f"Wrote {folder}/schema.json.",
        f"Next: kora serve --config '{folder}/kora.toml'",
    ]


def test_it_writes_into_the_working_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init() == 0
    assert {file.name for file in tmp_path.iterdir()} == {"kora.toml", "kora.schema.json", "schema.json"}


def test_it_never_overwrites_a_configuration(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "kora.toml").write_text("mine")
    assert init(str(tmp_path)) == 1
    assert (tmp_path / "kora.toml").read_text() == "mine"
    assert not (tmp_path / "schema.json").exists()
    assert capsys.readouterr().err == (
        f"kora: {tmp_path}/kora.toml is there already and was left as it is; delete it first, or name another folder\n"
    )


def test_it_never_writes_through_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "kora.toml").symlink_to(tmp_path / "elsewhere.toml")
    assert init(str(tmp_path)) == 1
    assert not (tmp_path / "elsewhere.toml").exists()


def test_it_leaves_an_apps_schema_alone(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "schema.json").write_text("mine")
    assert init(str(tmp_path)) == 0
    assert (tmp_path / "schema.json").read_text() == "mine"
    assert f"{tmp_path}/schema.json is there already and was left as it is." in capsys.readouterr().out


def test_a_folder_that_can_not_be_made_is_one_sentence(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    assert init(str(tmp_path / "file")) == 1
    assert init(str(tmp_path / "file" / "below")) == 1
    assert capsys.readouterr().err == (
        f"kora: {tmp_path}/file is no folder; name another one\n"
        f"kora: {tmp_path}/file/below/kora.toml can't be written: Not a directory; name another folder\n"
    )
