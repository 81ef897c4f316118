"""Somebody who tries everything against the data API within a scope, and against the files of an app."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.apply.trusted import Mutation
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.data import LINES_TYPE
from kora_daemon.http.static_files import AppFiles
from kora_daemon.server.options import ServerOptions
from kora_daemon.server.sync_server import SyncServer
from tests.support.http import Answer, http_client
from tests.support.network import running_server
from tests.support.records import schema_of

TOKEN = "data-t0ken"
MARK = "only-bob-knows"
SCHEMA = schema_of(
    1, todos={"owner": "string", "title": "string", "n": "number", "tags": "array"}, logs={"text": "string"}
)
ALICE = {"todos": {"owner": "alice"}}
IDS = ("a1", "a2", "b1", "b2", "gone", "new")
OWNERS = ("alice", "bob", None, "Alice", ["alice"], 5)
BOBS = ("b1", "b2", "gone", "nobodys")


async def prepared(server: SyncServer) -> None:
    """Alice has two todos, Bob two and one that is deleted, one is nobody's; the logs are for neither."""
    for record_id, owner in (("a1", "alice"), ("a2", "alice"), ("b1", "bob"), ("b2", "bob"), ("gone", "bob")):
        fields = {"owner": owner, "title": MARK if owner == "bob" else "hers", "n": 1, "tags": ["x"]}
        await server.apply(Mutation("insert", "todos", record_id, fields))
    await server.apply(Mutation("delete", "todos", "gone"))
    await server.apply(Mutation("insert", "todos", "nobodys", {"title": MARK}))
    await server.apply(Mutation("insert", "logs", "l", {"text": MARK}))


async def hidden(server: SyncServer) -> Any:
    """All that Alice has no part in."""
    records = [await server.find_record("todos", one) for one in BOBS]
    return records, await server.query_collection("logs")


class Attacker:
    """Makes up requests, each as good as any."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def pick(self, *choices: Any) -> Any:
        return self._chance.choice(choices)

    def fields(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self.pick(True, False):
            made["owner"] = self.pick(*OWNERS)
        if self.pick(True, False):
            made["title"] = self.pick("x", MARK[:4], None)
        return made

    def change(self) -> dict[str, Any]:
        change = {
            "type": self.pick("insert", "update", "delete"),
            "collection": self.pick("todos", "todos", "todos", "logs"),
            "recordId": self.pick(*IDS, "nobodys", "l"),
            "data": self.fields(),
        }
        if change["type"] == "update" and self.pick(True, False):
            field = self.pick("owner", "n", "tags", "title")
            kind = self.pick("increment", "max", "append", "remove")
            change["atomic"] = {field: {"type": kind, "value": self.pick(1, "bob", "alice", None)}}
        return change

    def key(self) -> dict[str, str]:
        return {"collection": self.pick("todos", "logs"), "recordId": self.pick(*IDS, "nobodys", "l")}

    def write(self) -> dict[str, Any]:
        if self.pick(True, False):
            change = self.change()
            return change if self.pick(True, False) else {**change, "idempotency": self.key()}
        condition = self.pick({}, {"owner": {"$eq": "bob"}}, {"title": {"$eq": MARK}}, {"n": {"$gte": 0}})
        write = {
            "target": self.key(),
            "condition": condition,
            "also": [self.change() for _ in range(self.pick(0, 1, 3))],
        }
        return write if self.pick(True, False) else {**write, "update": self.fields(), "idempotency": self.key()}

    def question(self) -> str:
        path = self.pick("todos", "todos", f"todos/{self.pick(*IDS, 'nobodys')}", "logs", "logs/l")
        where = self.pick(
            "", "where.owner=bob", "where.owner:=null", f"where.title={MARK}", 'where={"owner":["alice"]}'
        )
        more = self.pick(
            "", "include_deleted=true", "order_by=title", "after=a", "count=true", "order_by=owner&desc=true"
        )
        return f"{path}?{quote(where, safe='=&.:')}&{more}"


@pytest.mark.parametrize("seed", range(2))
async def test_within_a_scope_nothing_outside_is_seen_or_changed(seed: int) -> None:
    attacker, asked = Attacker(seed), {"read": 0, "written": 0}
    options = ServerOptions(apply=ApplyRules(SCHEMA))
    async with running_server(options=options, access=Access(Tokens(data=TOKEN))) as host:
        await prepared(host.server)
        before = await hidden(host.server)
        async with http_client(host.port) as client:
            headers = {"authorization": f"Bearer {TOKEN}", "x-kora-scope": json.dumps(ALICE)}
            for _ in range(150):
                if attacker.pick(True, False):
                    accept = attacker.pick("*/*", LINES_TYPE)
                    answer = await client.ask(
                        f"/__kora/data/{attacker.question()}", headers={**headers, "accept": accept}
                    )
                    asked["read"] += _judged_read(answer)
                else:
                    body = json.dumps(attacker.write()).encode()
                    answer = await client.ask("/__kora/data/apply", "POST", body, headers)
                    assert answer.status in (200, 403, 409, 422), answer.body
                    assert MARK.encode() not in answer.body
                    asked["written"] += answer.status == 200
        assert await hidden(host.server) == before
        owners = {one["owner"] for one in await host.server.query_collection("todos") if one["id"] not in BOBS}
        assert owners <= {"alice"}
    assert all(asked.values()), asked


def _judged_read(answer: Answer) -> bool:
    """Whether there was something to see, all of it Alice's."""
    assert answer.status in (200, 400, 403, 404), answer.body
    assert MARK.encode() not in answer.body
    if answer.status != 200:
        return False
    lines = answer.headers["content-type"] == LINES_TYPE
    shown = [json.loads(line) for line in answer.body.splitlines()] if lines else [answer.json]
    records = [one for part in shown for one in part.get("records", [part])]
    assert {one["owner"] for one in records} <= {"alice"}
    return bool(records)


SECRET = b"SECRET of the machine"
PARTS = (
    *("..", ".", "", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%2f", "..%5c", "\\..", "%c0%ae%c0%ae", "..%00", "..;"),
    *(
        "dist",
        "assets",
        "index.html",
        "link",
        "inside",
        "secret.txt",
        ".env",
        "%2eenv",
        ".git",
        "config",
        "etc",
        "passwd",
    ),
    *(
        "%2f",
        "%2fetc%2fpasswd",
        "~",
        "SECRET~1.TXT",
        "secret.txt%20",
        "secret.txt.",
        "file:",
        "\u00e9".encode().hex("%"),
    ),
)


@pytest.mark.parametrize("seed", range(2))
async def test_no_path_leads_out_of_the_folder_of_an_app(seed: int, tmp_path: Path) -> None:
    chance, found = random.Random(seed), 0
    dist = tmp_path / "dist"
    for folder in (dist / "assets", dist / ".git", tmp_path / "inside"):
        folder.mkdir(parents=True)
    for secret in (tmp_path / "secret.txt", dist / ".env", dist / ".git" / "config", tmp_path / "inside" / "config"):
        secret.write_bytes(SECRET)
    (dist / "index.html").write_bytes(b"app")
    (dist / "assets" / "index.html").write_bytes(b"app")
    (dist / "link").symlink_to(tmp_path)
    (dist / "assets" / "link").symlink_to("..")
    page = {"accept": "text/html", "sec-fetch-mode": "navigate"}
    async with running_server(path="/sync", app=AppFiles(dist)) as host, http_client(host.port) as client:
        for _ in range(250):
            path = "/".join(chance.choice(PARTS) for _ in range(chance.randint(1, 6)))
            slash = chance.choice(("/", "//", "/assets/", "/link/", ""))
            target = f"{slash}{path}" if slash or path.startswith("/") else f"/{path}"
            answer = await client.ask(target, headers=chance.choice(({}, page)))
            assert answer.status in (200, 308, 400, 404), (target, answer)
            assert SECRET not in answer.body, target
            if answer.status == 200:
                assert answer.body == b"app", target
                found += 1
            if answer.status == 308:
                assert answer.headers["location"].startswith("/"), target
                assert not answer.headers["location"].startswith("//"), target
    assert found
