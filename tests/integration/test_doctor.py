"""`kora doctor` as an operator runs it, and the databases that it looks at."""

from __future__ import annotations

import json
import os
import pty
import re
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from msgspec.structs import replace

from kora_daemon.config.toml_text import toml_text
from kora_daemon.doctor import postgres
from kora_daemon.doctor.checks import Severity
from kora_daemon.doctor.examination import Diagnosis
from kora_daemon.doctor.rounds import diagnose
from kora_daemon.maintenance import make_rows
from kora_daemon.schema_file import read_schema
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.postgres.inspection import DatabaseFacts
from kora_daemon.store.postgres.sessions import Session
from koractl.app import main
from tests.support.cli import Kora, schema_text
from tests.support.doctor import diagnosed, has_failed, is_doubtful, is_well
from tests.support.endpoint import CERTIFICATE
from tests.support.postgres import server
from tests.support.process import Daemon
from tests.support.records import Node, apply
from tests.support.tokens import SECRET

ROOT = Path(__file__).parents[2]
SCHEMA = schema_text(todos={"title": "string", "n": "number"})
GROWN = schema_text(2, todos={"title": "string", "n": "number", "done": "boolean"})
RETYPED = schema_text(2, todos={"title": "string", "n": "string"})
HERE = '[server]\nhost = "127.0.0.1"\nport = 0\n'
WITH_SCHEMA = f'schema = "schema.json"\n{HERE}'


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture
def kora(tmp_path: Path) -> Kora:
    made = Kora(tmp_path, SCHEMA, WITH_SCHEMA)
    assert made("migrate").code == 0
    with made.store() as store:
        apply(store, Node().insert("r", {"title": "a"}))
    return made


# -- the command ------------------------------------------------------------------------------------------------------


def test_it_tells_each_check_and_ends_well(kora: Kora) -> None:
    ended = kora("doctor")
    assert ended.code == 0
    assert re.search(r"config\.valid +│ \[ok\] +│ .*kora\.toml is valid", ended.out)
    assert re.search(r"store\.tables +│ \[ok\] +│ the tables are those of the schema", ended.out)
    assert "Traceback" not in ended.out
    assert re.fullmatch(r"kora: (all \d+ checks are well|\d+ warnings?)\n", ended.err)


def test_a_failure_is_told_with_its_way_out_and_by_the_exit_code(kora: Kora) -> None:
    kora.use(RETYPED)
    ended = kora("doctor")
    assert ended.code == 1
    assert re.search(
        r"store\.tables +│ \[failure\] +│ the schema takes something away.*│ look at kora migrate", ended.out
    )
    assert ended.err.startswith("kora: 1 failure")


def test_programs_read_json(kora: Kora) -> None:
    kora.use(RETYPED)
    ended = kora("doctor", "--json")
    told = json.loads(ended.out)
    assert (ended.code, ended.err, told["counts"]["failure"]) == (1, "", 1)
    assert {tuple(one) for one in told["checks"]} == {("id", "severity", "found", "remedy")}
    assert {one["severity"] for one in told["checks"]} <= set(Severity)
    (failed,) = (one for one in told["checks"] if one["severity"] == "failure")
    assert (failed["id"], failed["remedy"]) == (
        "store.tables",
        "look at kora migrate --dry-run, then run kora migrate --allow-destructive",
    )


def test_a_file_that_is_not_valid_is_all_that_is_looked_at(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, '[server]\nport = "x"\nprt = 1')
    assert list(found) == ["config.valid"]
    has_failed(found["config.valid"], 'found "x"', "server.prt", "correct what is named")
    ended = Kora(tmp_path, config="[")("doctor")
    assert (ended.code, "is not TOML" in ended.out) == (1, True)


def test_what_the_file_names_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    found = diagnosed(tmp_path, WITH_SCHEMA)
    has_failed(found["config.parts"], "schema.json")
    has_failed(found["store.tables"], "schema.json")
    is_well(found["sqlite.files"])
    has_failed(diagnosed(tmp_path, f'{HERE}[validate]\npython = "nowhere:f"')["config.parts"], "nowhere")


def test_colours_are_for_terminals_and_for_those_who_want_them(kora: Kora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    coloured = shown_on_a_terminal("doctor", "--config", str(kora.config))
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown_on_a_terminal("doctor", "--config", str(kora.config))
    assert re.search("\x1b\\[[0-9;]*3[0-9]", coloured)
    assert not re.search("\x1b\\[[0-9;]*3[0-9]", plain)
    widths = {len(re.sub("\x1b\\[[0-9;]*m", "", line.rstrip())) for line in plain.splitlines()}
    assert max(widths) == 100


def shown_on_a_terminal(*arguments: str) -> str:
    """What a command writes to stdout, when that is a terminal."""
    ours, theirs = pty.openpty()
    output = bytearray()

    def read() -> None:
        with suppress(OSError):  # so Linux says that the other side is closed
            while True:
                output.extend(os.read(ours, 65_536))

    reader = Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal, redirect_stdout(terminal), pytest.raises(SystemExit):
        main([*arguments])
    reader.join()
    os.close(ours)
    return output.decode()


def test_every_check_is_documented_and_none_besides(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(SCHEMA)
    tls = f'tls_certificate = "{CERTIFICATE}"\ntls_key = "{CERTIFICATE.with_name("key.pem")}"\n'
    kora = f'[auth]\nkind = "kora"\nshared_data = true\n[auth.kora]\nsecret = "{SECRET}"\ndatabase = "sqlite:auth.db"\n'
    (tmp_path / "key.pem").write_bytes(CERTIFICATE.read_bytes())
    jwt = (
        '[auth]\nkind = "token"\nsource = "jwt"\nshared_data = true\n'
        '[auth.jwt]\nalgorithms = ["RS256"]\npublic_key_file = "key.pem"\n'
    )
    (tmp_path / "kora.db-wal").touch()
    found = set(diagnosed(tmp_path, f"{WITH_SCHEMA}{tls}{kora}"))
    (tmp_path / "kora.db-wal").unlink()
    with Kora(tmp_path, SCHEMA, HERE).store() as store:
        apply(store, Node().insert("r", {"title": "a"}))
    found |= set(diagnosed(tmp_path, f"{WITH_SCHEMA}{jwt}"))
    found |= set(on_postgres(tmp_path, server().schema(), '[blobs]\nkind = "directory"'))
    page = (ROOT / "docs" / "doctor.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` ", page, re.M))
    assert found == documented


# -- SQLite -----------------------------------------------------------------------------------------------------------


def test_a_store_at_rest_is_left_as_it_is(kora: Kora) -> None:
    before = contents(kora.folder)
    found = {one.id: one for one in diagnose(kora.config)}
    is_well(found["store.log"], "format 1")
    is_well(found["clock.log"], "days ago")
    is_well(found["store.tables"], "are those of the schema")
    assert contents(kora.folder) == before


def test_a_new_folder_stays_empty(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, HERE)
    is_well(found["sqlite.files"], "not there yet")
    is_well(found["store.log"], "no log yet")
    assert "clock.log" not in found
    assert names(tmp_path) == {"kora.toml"}


def test_a_store_that_is_served_is_looked_at_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(SCHEMA)
    with Daemon(tmp_path, WITH_SCHEMA) as daemon:
        before = names(tmp_path)
        found = diagnosed(tmp_path, WITH_SCHEMA.replace("port = 0", f"port = {daemon.port}"))
        is_well(found["server.port"], "by Kora Daemon")
        is_well(found["store.log"])
        is_well(found["store.tables"])
        is_well(found["sqlite.files"])
        assert names(tmp_path) == before
        assert daemon.stop() == 0


def test_tables_that_are_not_those_of_the_schema(kora: Kora) -> None:
    kora.use(GROWN)
    is_doubtful(_of(kora, "store.tables"), "add column todos.done", "kora migrate")
    kora.use(RETYPED)
    has_failed(_of(kora, "store.tables"), "column todos.n becomes TEXT", "--allow-destructive")
    kora.use(SCHEMA)
    kora.sql('UPDATE kora_collections SET refill = \'{"source": "log"}\'')
    is_doubtful(_of(kora, "store.tables"), "rows are still to be made: todos", "kora backfill")


def test_whose_log_it_is(kora: Kora, tmp_path: Path) -> None:
    kora.sql("UPDATE kora_meta SET value = '99' WHERE key = 'format'")
    has_failed(_of(kora, "store.log"), "format 99", "run that version")
    kora.sql("DROP TABLE kora_meta")
    kora.sql("DROP TABLE kora_collections")
    is_well(_of(kora, "store.log"), "TypeScript server's")
    is_well(_of(kora, "store.tables"), "no tables yet")
    kora.sql("DROP TABLE operations")
    is_well(_of(kora, "store.log"), "no log yet")
    kora.database.write_bytes(b"no database at all " * 100)
    has_failed(_of(kora, "store.log"), "this is no SQLite database", "restore")


def test_a_clock_that_was_set_back(kora: Kora) -> None:
    tomorrow_ms = round((time.time() + 86_400) * 1000)
    kora.sql(f"UPDATE operations SET received_at = {tomorrow_ms}")
    has_failed(_of(kora, "clock.log"), "the clock has been set back")
    kora.sql(f"UPDATE operations SET received_at = {tomorrow_ms - 5 * 86_400_000}")
    is_well(_of(kora, "clock.log"), "4 days ago")


def test_a_log_in_memory_is_worth_a_word(tmp_path: Path) -> None:
    is_doubtful(diagnosed(tmp_path, f'{HERE}[store]\nkind = "memory"')["store.log"], "gone with the daemon")


def _of(kora: Kora, name: str) -> Diagnosis:
    (found,) = (one for one in diagnose(kora.config) if one.id == name)
    return found


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


def on_postgres(folder: Path, url: str, more: str = "") -> dict[str, Diagnosis]:
    (folder / "schema.json").write_text(SCHEMA)
    return diagnosed(folder, f'{WITH_SCHEMA}[store]\nkind = "postgres"\nurl = {toml_text(url)}\n{more}')


def test_a_new_database_stays_empty(tmp_path: Path) -> None:
    url = server().schema()
    found = on_postgres(tmp_path, url)
    is_well(found["postgres.reachable"], "answers: PostgreSQL")
    is_well(found["postgres.connections"], "a daemon takes up to 7 connections")
    with_blobs = on_postgres(tmp_path, url, '[blobs]\nkind = "store"')
    is_well(with_blobs["postgres.connections"], "a daemon takes up to 11 connections")
    is_well(found["postgres.rights"], "kora may create tables in the schema kora_")
    is_well(found["postgres.encoding"])
    is_well(found["postgres.pooler"], "no pooler")
    is_well(found["postgres.clock"])
    is_well(found["store.log"], "no log yet")
    is_well(found["store.tables"], "no tables yet")
    # That of the tests is switched off to be fast.
    is_doubtful(found["postgres.durability"], "fsync")
    with psycopg.connect(url) as connection:
        assert (
            connection.execute("SELECT 1 FROM pg_class WHERE relnamespace = current_schema::regnamespace").fetchall()
            == []
        )


def test_a_database_in_use(tmp_path: Path) -> None:
    url = server().schema()
    store = PostgresStore(url)
    store.open()
    try:
        store.upgrade(read_schema(json.loads(SCHEMA)))
        assert list(make_rows(store))
        apply(store, Node().insert("r", {"title": "a"}))
        found = on_postgres(tmp_path, url)
        is_well(found["store.log"], "format 1")
        is_well(found["clock.log"], "days ago")
        is_well(found["store.tables"], "are those of the schema")
        is_well(found["postgres.connections"], "of them by daemons")
    finally:
        store.close()


def test_a_database_that_can_not_be_reached_is_told_once(tmp_path: Path) -> None:
    found = on_postgres(tmp_path, "postgresql://kora:s3cret@127.0.0.1:1/kora")
    has_failed(found["postgres.reachable"], "127.0.0.1:1/kora can't be reached", "check that it runs")
    told = [one.found + one.remedy for one in found.values()]
    assert sum("can't be reached" in one for one in told) == 1
    assert "store.log" not in found
    assert not any("s3cret" in one for one in told)
    assert not any(name.startswith("postgres.") for name in found if name != "postgres.reachable")


def test_a_user_without_rights(tmp_path: Path) -> None:
    made = server()
    database = made.database()
    with made.connect(database) as connection:
        connection.execute("CREATE ROLE visitor LOGIN CONNECTION LIMIT 5")
        connection.execute("CREATE TABLE operations (id text)")
    url = made.url(database, user="visitor")
    found = on_postgres(tmp_path, url)
    has_failed(found["postgres.rights"], "visitor may not create tables in the schema public", "GRANT CREATE")
    has_failed(found["postgres.connections"], "7 connections; 5 may be had", "max_connections")
    has_failed(found["store.log"], "a column is missing")
    with made.connect(database) as connection:
        connection.execute("GRANT CREATE, USAGE ON SCHEMA public TO visitor")
    has_failed(on_postgres(tmp_path, url)["postgres.rights"], "does not own operations", "OWNER TO visitor")
    is_well(on_postgres(tmp_path, url, "readers = 2")["postgres.connections"])
    no_schema = on_postgres(tmp_path, made.url(database, options="-csearch_path=nowhere"))
    has_failed(no_schema["postgres.rights"], "no schema to put tables into", "search_path")


def test_a_database_in_another_encoding(tmp_path: Path) -> None:
    database = server().database("ENCODING 'LATIN1' LOCALE 'C'")
    found = on_postgres(tmp_path, server().url(database))
    has_failed(found["postgres.encoding"], "LATIN1", "ENCODING UTF8")


def test_a_database_that_only_reads(tmp_path: Path) -> None:
    database = server().database()
    with server().connect() as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
    has_failed(on_postgres(tmp_path, server().url(database))["postgres.reachable"], "only reads", "read-write")


def test_what_a_database_says_of_itself_is_judged() -> None:
    facts = DatabaseFacts("13.1", 130_001, "UTF8", False, True, 97, -1, -1, 90, 0, "kora", "public", True, [])
    session = Session("host=db dbname=kora", "", "full", 1, 1, 1)
    is_doubtful(postgres._reachable(session, facts), "13.1", "upgrade it")
    is_well(postgres._durability(facts))
    is_well(postgres._connections(facts, 7), "97 may be had, 90 are in use")
    is_doubtful(postgres._connections(facts, 8), "raise max_connections")
    is_well(postgres._connections(replace(facts, ours=4), 8), "4 of them by daemons")
    has_failed(postgres._connections(replace(facts, database_limit=7), 8), "7 may be had")
    is_doubtful(postgres._clock(-6.0), "6.000 s behind", "synchronised")
    is_well(postgres._pooler("session"), "session mode")
    has_failed(postgres._pooler("transaction"), "listen", "session mode")
