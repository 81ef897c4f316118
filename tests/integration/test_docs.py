"""What the documents promise is run.

A block behind `<!-- file: NAME -->` is written to that file. A `console` block has commands behind `$ ` and right below
each what it prints, or complains of when it fails; … stands for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from kora_daemon.config import load_settings
from kora_daemon.schema_file import read_schema
from koractl.app import main
from tests.support.blobs import hashed
from tests.support.network import Client, connected
from tests.support.operations import wire_operation
from tests.support.process import Daemon

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef" * 2
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.M)


class Block(NamedTuple):
    """A block of code; `file` is the file that it is, if it is said to be one."""

    file: str | None
    language: str
    text: str


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, or all."""
    found = [Block(**one.groupdict()) for one in _BLOCK.finditer((ROOT / "docs" / page).read_text())]
    return [one for one in found if not languages or one.language in languages]


class Desk:
    """The folder that a reader works in, and what they read on the way."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def take(self, block: Block) -> None:
        """Do with a block what a reader does."""
        if block.file is not None:
            (self.folder / block.file).write_text(block.text)
        elif block.language == "console":
            for command, printed in _commands(block.text):
                self._type(command, printed)
        elif block.language == "sql":
            for statement in filter(None, map(str.strip, block.text.split(";"))):
                assert self.asked(statement), statement
        elif block.language == "sh":
            self._run(block.text)

    def _type(self, command: str, expected: list[str]) -> None:
        program, *arguments = shlex.split(command)
        assert program == "kora"
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed, complained = self._capsys.readouterr()
        fails = expected[0].startswith("kora: ")
        assert bool(ended.value.code) == fails, (command, printed, complained)
        shown = (complained if fails else printed).splitlines()
        assert len(shown) == len(expected), (command, shown)
        for line, wanted in zip(shown, expected, strict=True):
            assert re.fullmatch(re.escape(wanted).replace("…", ".*"), line), (command, line, wanted)

    def asked(self, statement: str) -> list[Any]:
        """What the database answers."""
        database = apsw.Connection(str(self.folder / "kora.db"), flags=apsw.SQLITE_OPEN_READONLY)
        answer: list[Any] = database.execute(statement).fetchall()
        database.close()
        return answer

    def _run(self, text: str) -> None:
        if text.startswith("sqlite3 ") and shutil.which("sqlite3") is None:
            return
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console, each with the lines below it."""
    for typed in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *printed = typed.splitlines()
        yield command, printed


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder with the schema of the schema page and a configuration that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KORA_CONFIG", raising=False)
    (tmp_path / "kora.toml").write_text('schema = "schema.toml"\n')
    (tmp_path / "schema.toml").write_text(blocks("schema.md", "toml")[0].text)
    return Desk(tmp_path, capsys)


def test_the_schema_page_can_be_followed(desk: Desk) -> None:
    for block in blocks("schema.md", "toml", "console"):
        desk.take(block)


def test_the_records_page_can_be_followed(desk: Desk) -> None:
    for block in blocks("records.md"):
        desk.take(block)


def test_the_backup_page_can_be_followed(desk: Desk) -> None:
    (first, *_) = blocks("records.md", "console")
    desk.take(first)
    for block in blocks("backup.md", "console", "sh"):
        if "damaged.kora" in block.text:
            content = Path("monday.kora").read_bytes()
            Path("short.kora").write_bytes(content[:-200])
            Path("damaged.kora").write_bytes(content.replace(b"Paint", b"Faint"))
        desk.take(block)


def test_the_page_about_files_can_be_followed(desk: Desk) -> None:
    (first, *_) = blocks("records.md", "console")
    desk.take(first)
    place = desk.folder / "old-blobs" / hashed(b"x")[:2]
    place.mkdir(parents=True)
    (place / hashed(b"x")).write_bytes(b"x")
    for block in blocks("blobs.md"):
        desk.take(block)
    assert (desk.folder / "backups" / "blobs" / hashed(b"x")[:2] / hashed(b"x")).read_bytes() == b"x"


def test_what_the_auth_page_says_about_scopes_comes_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORA_AUTH_SECRET", SECRET)
    for block in blocks("auth.md", "toml", "console"):
        desk.take(block)


def test_what_the_recipes_page_says_about_trying_tokens_out_can_be_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRY_SECRET", SECRET)
    monkeypatch.setenv("TOKEN", "shown.by.somebody")
    taken = [block for block in blocks("recipes.md", "toml", "sh") if block.file or block.language == "sh"]
    assert len(taken) == 4
    for block in taken:
        desk.take(block)


async def test_the_validator_of_its_page_judges_devices(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALI_TOKEN", "open-sesame")
    for block in blocks("validators.md"):
        desk.take(block)
    config = (desk.folder / "kora.toml").read_text()
    with Daemon(desk.folder, f'{config}\n[server]\nhost = "127.0.0.1"\nport = 0\n') as daemon:
        async with connected(daemon.url) as client:
            await client.shake_hands(authToken="open-sesame")
            await client.download()
            uploaded = [
                wire_operation(number, collection=collection, recordId=f"r{number}", data=data)
                for number, (collection, data) in enumerate(
                    [
                        ("tasks", {"title": "Paint", "ownerId": "ali", "status": "open"}),
                        ("tasks", {"title": "Roof", "ownerId": "bea"}),
                        ("tasks", {"title": " ", "ownerId": "ali"}),
                        ("telemetry", {"clicks": 7}),
                        ("projects", {"name": "House"}),
                    ],
                    start=1,
                )
            ]
            await client.upload(*uploaded)
            rejections = await _rejections(client)
    assert rejections == {uploaded[1]["id"]: "NOT_YOURS", uploaded[2]["id"]: "NO_TITLE"}
    assert desk.asked("SELECT record_id FROM operations ORDER BY record_id") == [("r1",), ("r5",)]
    assert desk.asked("SELECT id FROM tasks") == [("r1",)]


async def _rejections(client: Client) -> dict[str, str]:
    """Operation id -> code, until the batch is acknowledged."""
    found: dict[str, str] = {}
    while (message := await client.hear())["type"] != "acknowledgment":
        if message["type"] == "operation-rejected":
            found[message["operationId"]] = message["code"]
    return found


def _shakes_hands(printed: str) -> None:
    assert '"handshake-response"' in printed
    assert "1 0" in printed


def _reads_and_writes_records(printed: str) -> None:
    assert "'title': 'Paint the door', 'completed': False" in printed
    assert "None 1\nskipped INVALID_VALUE todos.title must be a text\napplied repeated\n" in printed


@pytest.mark.parametrize(
    ("number", "check"), [(0, _shakes_hands), (1, _reads_and_writes_records)], ids=["devices", "records"]
)
def test_an_example_of_the_library_page_runs(number: int, check: Callable[[str], None]) -> None:
    examples = blocks("library.md", "python")
    assert len(examples) == 2
    ended = subprocess.run(
        [sys.executable, "-c", examples[number].text],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=ROOT,
    )
    check(ended.stdout)


def test_every_toml_block_is_a_good_schema_or_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{([A-Z_]+_(?:TOKEN|SECRET|URL))\b", "".join(page.read_text() for page in PAGES)):
        monkeypatch.setenv(name, "postgresql://kora@localhost/kora" if name.endswith("URL") else SECRET)
    here = tmp_path / "server"
    for folder in (here / "dist", tmp_path / "dist"):
        folder.mkdir(parents=True)
    for name in ("schema.json", "schema.toml", "revoked.txt"):
        (here / name).touch()
    judged = 0
    for page in (one.name for one in PAGES[1:]):
        for block in blocks(page, "toml"):
            document: dict[str, Any] = tomllib.loads(block.text)
            if "version" in document:
                read_schema(document, page)
            else:
                (here / "kora.toml").write_text(block.text)
                load_settings(here / "kora.toml")
            judged += 1
    assert judged >= 19


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
            goal = page.parent / target if target else page
            assert goal.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in _anchors(goal), f"{page.name} links to {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """The anchors that headings get where Markdown is shown."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
