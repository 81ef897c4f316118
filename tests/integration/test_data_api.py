"""Records and trusted writes over HTTP, for back ends."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.apply.unknown_fields import MOST_TOLD
from kora_daemon.errors import StoreUnavailable
from kora_daemon.http import data as data_module
from kora_daemon.http.access import Access, Tokens
from kora_daemon.http.data import LINES_TYPE
from kora_daemon.http.messages import DEFAULT_BODY_BYTES
from kora_daemon.http.problems import PROBLEM_TYPE
from kora_daemon.model.schema import Schema
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.memory import MemoryStore
from tests.support.http import Answer, HttpClient, http_client
from tests.support.judging import constraint, with_constraints
from tests.support.network import Host, running_server, streaming
from tests.support.records import schema_of

TOKEN = "data-t0ken"
SCHEMA = with_constraints(
    schema_of(
        1,
        todos={
            "title": "string",
            "n": "number",
            "done": "boolean",
            "at": "timestamp",
            "tags": "array",
            "body": "richtext",
            "owner": "string",
        },
        apply={"title": "string"},
    ),
    todos=[constraint("unique", "title")],
)


class BackEnd:
    """Somebody with the token and a connection."""

    def __init__(self, client: HttpClient, host: Host) -> None:
        self.client = client
        self.host = host

    async def get(self, path: str, scope: Any = None, accept: str | None = None, **parameters: Any) -> Answer:
        """What is below the root."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        headers = _headers(scope) | ({} if accept is None else {"accept": accept})
        return await self.client.ask(f"/__kora/data/{path}{query}", headers=headers)

    async def ids(self, path: str, scope: Any = None, **parameters: Any) -> str:
        """Of the records that a question finds, which are letters here."""
        answer = await self.get(path, scope, **parameters)
        assert answer.status == 200, answer.body
        return "".join(record["id"] for record in answer.json["records"])

    async def apply(self, body: Any, scope: Any = None) -> Answer:
        """A write."""
        return await self.client.ask(
            "/__kora/data/apply",
            "POST",
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            {"content-type": "application/json", **_headers(scope)},
        )

    async def insert(self, record_id: str, **data: Any) -> None:
        """A todo that is taken."""
        answer = await self.apply({"type": "insert", "collection": "todos", "recordId": record_id, "data": data})
        assert answer.status == 200, answer.body


def _headers(scope: Any) -> dict[str, str]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    if scope is None:
        return headers
    return headers | {"x-kora-scope": scope if isinstance(scope, str) else json.dumps(scope)}


def head(path: str, method: str = "GET", *more: str, **headers: str) -> bytes:
    """A request's head as it is on the wire; `more` are further lines of it."""
    named = {"host": "x", "authorization": f"Bearer {TOKEN}", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), *more, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def problem(answer: Answer) -> tuple[int, str]:
    """Status and code; the answer is a problem document."""
    assert answer.headers["content-type"] == PROBLEM_TYPE, answer
    assert answer.json["status"] == answer.status
    assert answer.json["message"]
    return answer.status, answer.json["code"]


async def served(stack: AsyncExitStack, schema: Schema | None = SCHEMA, **more: Any) -> BackEnd:
    """A server with the API on, and a back end that has connected."""
    options = ServerOptions(apply=ApplyRules(schema))
    host = await stack.enter_async_context(running_server(options=options, access=Access(Tokens(data=TOKEN)), **more))
    return BackEnd(await stack.enter_async_context(http_client(host.port)), host)


@pytest.fixture
async def back_end() -> AsyncIterator[BackEnd]:
    async with AsyncExitStack() as stack:
        made = await served(stack)
        await made.insert("a", title="Paint", n=1, done=True, owner="alice", tags=["x"], at=5)
        await made.insert("b", title="Roof", n=2, done=False, owner="bob", body={"$koraBytes": "AAE="})
        await made.insert("c", title="Sell", n=1, owner="alice")
        yield made


# -- reading


async def test_a_record_looks_as_kora_query_prints_it(back_end: BackEnd) -> None:
    answer = await back_end.get("todos/b")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    times = {name: answer.json[name] for name in ("_created_at", "_updated_at")}
    assert answer.json == {
        "id": "b",
        "title": "Roof",
        "n": 2,
        "done": False,
        "at": None,
        "tags": None,
        "body": {"$koraBytes": "AAE="},
        "owner": "bob",
        **times,
    }
    assert all(isinstance(ms, int) for ms in times.values())
    assert b'"n": 2,' in answer.body


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({}, "abc"),
        ({"where.owner": "alice"}, "ac"),
        ({"where.n": "1"}, "ac"),
        ({"where.n": "1.0", "where.done": "true"}, "a"),
        ({"where.n:": '"1"'}, ""),
        ({"where.done:": "null"}, "c"),
        ({"where.tags": '["x"]'}, "a"),
        ({"where.at": "5"}, "a"),
        ({"where.id": "b"}, "b"),
        ({"where": '{"owner": "alice", "n": 1}'}, "ac"),
        ({"where": '{"owner": "alice"}', "where.title": "Sell"}, "c"),
        ({"where": '{"body": {"$koraBytes": "AAE="}}'}, "b"),
        ({"order_by": "n", "desc": "true"}, "bac"),
        ({"order_by": "title"}, "abc"),
        ({"desc": "true"}, "cba"),
        ({"limit": "2"}, "ab"),
        ({"limit": "2", "offset": "1"}, "bc"),
        ({"limit": "0"}, ""),
        ({"after": "a"}, "bc"),
        ({"after": "a", "limit": "1"}, "b"),
        ({"include_deleted": "false"}, "abc"),
        ({"where.title": "1e999"}, ""),
        ({"where.n": "1e999"}, ""),
    ],
)
async def test_a_collection_can_be_asked_for_a_part(back_end: BackEnd, parameters: Any, found: str) -> None:
    assert await back_end.ids("todos", **parameters) == found


async def test_deleted_records_are_shown_to_whom_asks(back_end: BackEnd) -> None:
    assert (await back_end.apply({"type": "delete", "collection": "todos", "recordId": "a"})).status == 200
    assert await back_end.ids("todos") == "bc"
    assert await back_end.ids("todos", include_deleted="true") == "abc"
    assert await back_end.ids("todos", include_deleted="true", **{"where._deleted": "1"}) == "a"
    assert problem(await back_end.get("todos/a")) == (404, "NOT_FOUND")


async def test_an_answer_says_whether_there_is_more_and_how_many_there_are(back_end: BackEnd) -> None:
    answer = await back_end.get("todos", limit=2, count="true", **{"where.owner": "alice"})
    assert (answer.json["more"], answer.json["total"]) == (False, 2)
    answer = await back_end.get("todos", limit=1)
    assert (answer.json["more"], "total" in answer.json) == (True, False)
    assert (await back_end.get("todos", limit=0, count="true")).json == {"records": [], "more": True, "total": 3}


async def test_an_answer_ends_where_it_gets_large(back_end: BackEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "PART_BYTES", 250)
    assert await back_end.ids("todos") == "ab"
    assert (await back_end.get("todos")).json["more"] is True
    assert await back_end.ids("todos", after="b") == "c"
    lines = (await back_end.get("todos", accept=LINES_TYPE)).body.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b", "c"]


async def test_all_records_come_in_lines_a_part_at_a_time(back_end: BackEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "PART_RECORDS", 3)
    for number in range(10):
        await back_end.insert(f"x{number}", title=f"t{number}", owner="carol")

    async def lines(**parameters: Any) -> list[str]:
        answer = await back_end.get("todos", accept=f"text/html, {LINES_TYPE};q=0.9", **parameters)
        assert (answer.status, answer.headers["content-type"]) == (200, LINES_TYPE)
        assert answer.headers["transfer-encoding"] == "chunked"
        return [json.loads(line)["id"] for line in answer.body.splitlines()]

    everything = ["a", "b", "c", *(f"x{number}" for number in range(10))]
    assert await lines() == everything
    assert await lines(offset=2) == everything[2:]
    assert await lines(after="c", limit=7) == everything[3:10]
    assert await lines(limit=0) == []
    assert await lines(**{"where.owner": "alice"}) == ["a", "c"]
    assert await lines(**{"where.owner": "nobody"}) == []


async def test_ids_of_any_kind_can_be_named_in_a_path(back_end: BackEnd) -> None:
    for record_id in ("a/b", "?", "%41", "é", "..", " ", "😀", "a\x00b", "x" * 255):
        await back_end.insert(record_id, title=record_id)
        answer = await back_end.get(f"todos/{quote(record_id, safe='')}")
        assert (answer.status, answer.json["id"]) == (200, record_id)


async def test_halves_of_characters_come_back_as_they_were(back_end: BackEnd) -> None:
    body = b'{"type": "insert", "collection": "todos", "recordId": "h", "data": {"tags": ["\\ud800"]}}'
    assert (await back_end.apply(body)).status == 200
    assert b'"tags": ["\\ud800"]' in (await back_end.get("todos/h")).body


async def test_a_collection_may_have_the_name_of_a_command(back_end: BackEnd) -> None:
    answer = await back_end.apply({"type": "insert", "collection": "apply", "recordId": "x", "data": {"title": "t"}})
    assert answer.status == 200
    assert await back_end.ids("apply") == "x"
    assert (await back_end.get("apply/x")).json["title"] == "t"


@pytest.mark.parametrize(
    ("path", "parameters", "refused"),
    [
        ("nope", {}, (404, "UNKNOWN_COLLECTION")),
        ("operations", {}, (404, "UNKNOWN_COLLECTION")),
        ("todos/nope", {}, (404, "NOT_FOUND")),
        ("todos/a/b", {}, (404, "NOT_FOUND")),
        ("todos/", {}, (404, "NOT_FOUND")),
        ("", {}, (404, "NOT_FOUND")),
        ("todos/%ff", {}, (400, "INVALID_PARAMETER")),
        ("todos", {"limit": "1001"}, (400, "INVALID_PARAMETER")),
        ("todos", {"limit": "-1"}, (400, "INVALID_PARAMETER")),
        ("todos", {"limit": "١"}, (400, "INVALID_PARAMETER")),
        ("todos", {"limit": ""}, (400, "INVALID_PARAMETER")),
        ("todos", {"limit": "9" * 5000}, (400, "INVALID_PARAMETER")),
        ("todos", {"offset": "x"}, (400, "INVALID_PARAMETER")),
        ("todos", {"desc": "yes"}, (400, "INVALID_PARAMETER")),
        ("todos", {"oder_by": "n"}, (400, "INVALID_PARAMETER")),
        ("todos", {"order_by": "m"}, (400, "UNKNOWN_FIELD")),
        ("todos", {"order_by": ""}, (400, "UNKNOWN_FIELD")),
        ("todos", {"order_by": "n", "after": "a"}, (400, "INVALID_AFTER")),
        ("todos", {"count": "true", "include_deleted": "true"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where": "[]"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where": "{"}, (400, "MALFORMED_JSON")),
        ("todos", {"where": "[" * 50_000}, (431, None)),
        ("todos", {"where": '{"m": 1}'}, (400, "UNKNOWN_FIELD")),
        ("todos", {"where": '{"n": 1}', "where.n": "1"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where.n": "many"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where.n": "NaN"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where.n": "true"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where.done": "1"}, (400, "INVALID_PARAMETER")),
        ("todos", {"where._deleted": '"1"'}, (400, "INVALID_PARAMETER")),
        ("todos", {"where.m": "1"}, (400, "UNKNOWN_FIELD")),
        ("todos?limit=1&limit=2", {}, (400, "INVALID_PARAMETER")),
    ],
)
async def test_a_question_that_can_not_be_asked_is_told_why(
    back_end: BackEnd, path: str, parameters: Any, refused: tuple[int, str | None]
) -> None:
    answer = await back_end.get(path, **parameters)
    assert refused == ((answer.status, None) if refused[1] is None else problem(answer)), answer.body


async def test_lines_have_neither_order_nor_total(back_end: BackEnd) -> None:
    for parameters in ({"order_by": "n"}, {"desc": "true"}, {"count": "true"}):
        refused = await back_end.get("todos", accept=LINES_TYPE, **parameters)
        assert problem(refused) == (400, "INVALID_PARAMETER")


# -- writing


async def test_what_is_written_reaches_devices_and_records(back_end: BackEnd) -> None:
    async with streaming(back_end.host.url, "device") as device:
        update = {"type": "update", "collection": "todos", "recordId": "a", "data": {"title": "Paint it"}}
        answer = await back_end.apply(update)
        assert (answer.json["result"], answer.json["recordIds"]) == ("applied", ["a"])
        batch = await device.hear()
        assert [one["id"] for one in batch["operations"]] == answer.json["operations"]
        assert batch["operations"][0]["data"] == {"title": "Paint it"}
    assert (await back_end.get("todos/a")).json["title"] == "Paint it"


async def test_an_insert_without_an_id_gets_one(back_end: BackEnd) -> None:
    answer = await back_end.apply({"type": "insert", "collection": "todos", "data": {"title": "New"}})
    (record_id,) = answer.json["recordIds"]
    assert (await back_end.get(f"todos/{record_id}")).json["title"] == "New"


async def test_atomic_changes_are_worked_out_here(back_end: BackEnd) -> None:
    more = {"n": {"type": "increment", "value": 5}}
    await back_end.apply({"type": "update", "collection": "todos", "recordId": "a", "atomic": more})
    assert (await back_end.get("todos/a")).json["n"] == 6


async def test_several_changes_under_a_condition(back_end: BackEnd) -> None:
    write = {
        "target": {"collection": "todos", "recordId": "a"},
        "condition": {"n": {"$lt": 2}},
        "update": {"done": False},
        "atomic": {"n": {"type": "increment", "value": 1}},
        "also": [{"type": "insert", "collection": "todos", "recordId": "log", "data": {"title": "Log"}}],
        "refusal": {"code": "SOLD_OUT", "message": "Nothing is left"},
    }
    answer = await back_end.apply(write)
    assert (answer.status, answer.json["result"], answer.json["recordIds"]) == (200, "applied", ["a", "log"])
    answer = await back_end.apply(write)
    assert problem(answer) == (409, "SOLD_OUT")
    assert (answer.json["message"], answer.json["recordId"]) == ("Nothing is left", "a")
    del write["refusal"]
    assert problem(await back_end.apply(write)) == (409, "CONDITION_NOT_MET")


@pytest.mark.parametrize("named", [{}, {"recordId": "order"}])
async def test_a_write_that_is_sent_again_is_done_once(back_end: BackEnd, named: dict[str, str]) -> None:
    done = {"collection": "todos", "recordId": "order"}
    once = {"type": "insert", "collection": "todos", "recordId": "order", "data": {"title": "Order", "n": 1}}
    assert (await back_end.apply({**once, "idempotency": done})).json["result"] == "applied"
    await back_end.apply({"type": "update", "collection": "todos", "recordId": "order", "data": {"n": 7}})
    more = {"type": "insert", "collection": "todos", "data": {"title": "Other"}, **named, "idempotency": done}
    answer = await back_end.apply(more)
    assert (answer.status, answer.json) == (200, {"result": "repeated", "recordIds": ["order"], "operations": []})
    assert (await back_end.get("todos/order")).json["n"] == 7


async def test_fields_that_the_schema_does_not_have_are_written_and_named(back_end: BackEnd) -> None:
    insert = {"type": "insert", "collection": "todos", "recordId": "new", "data": {"titel": "New", "\ud800": 1}}
    answer = await back_end.apply(insert)
    assert (answer.status, list(answer.json)) == (200, ["result", "recordIds", "operations", "warnings"])
    first, second = answer.json["warnings"]
    assert first == "todos has no field 'titel'; did you mean 'title'? The log has it, records don't show it"
    assert second.startswith("todos has no field '\\ud800'; it has title, n, done, ")

    write = {"target": {"collection": "todos", "recordId": "a"}, "condition": {}, "update": {"n": 3}}
    assert "warnings" not in (await back_end.apply(write)).json
    write["also"] = [{**insert, "recordId": str(number), "data": {f"f{number}": 1}} for number in range(20)]
    write["update"] = dict.fromkeys(("no", "never"), 1)
    warnings = (await back_end.apply(write)).json["warnings"]
    assert (len(warnings), "'no'" in warnings[0], "'f7'" in warnings[-1]) == (MOST_TOLD, True, True)
    again = {**insert, "idempotency": {"collection": "todos", "recordId": "new"}}
    assert "warnings" not in (await back_end.apply(again)).json


async def test_without_a_schema_every_field_is_as_good_as_any() -> None:
    async with AsyncExitStack() as stack:
        back_end = await served(stack, None)
        answer = await back_end.apply({"type": "insert", "collection": "todos", "data": {"titel": "New"}})
        assert list(answer.json) == ["result", "recordIds", "operations"]


CHANGE = {"type": "insert", "collection": "todos", "recordId": "x", "data": {}}
TARGET = {"collection": "todos", "recordId": "a"}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b"", (400, "MALFORMED_JSON")),
        (b"{", (400, "MALFORMED_JSON")),
        (b"\xff", (400, "MALFORMED_JSON")),
        (b'{"type": NaN}', (400, "MALFORMED_JSON")),
        (b"[" * 100_000, (400, "MALFORMED_JSON")),
        (b"5", (422, "MALFORMED_REQUEST")),
        ([], (422, "MALFORMED_REQUEST")),
        ({}, (422, "MALFORMED_REQUEST")),
        ({**CHANGE, "type": "replace"}, (422, "MALFORMED_REQUEST")),
        ({**CHANGE, "record_id": "y"}, (422, "MALFORMED_REQUEST")),
        ({**CHANGE, "recordId": 5}, (422, "MALFORMED_REQUEST")),
        ({**CHANGE, "data": []}, (422, "MALFORMED_REQUEST")),
        ({**CHANGE, "recordId": "x" * 256}, (422, "INVALID_OPERATION")),
        ({**CHANGE, "collection": "nope"}, (422, "INVALID_OPERATION")),
        ({**CHANGE, "data": None}, (422, "INVALID_OPERATION")),
        ({**CHANGE, "type": "update", "recordId": ""}, (422, "MISSING_RECORD_ID")),
        ({**CHANGE, "type": "update", "atomic": {"n": {"type": "double"}}}, (422, "INVALID_OPERATION")),
        ({**CHANGE, "data": {"n": "one"}}, (422, "INVALID_VALUE")),
        ({**CHANGE, "data": {"title": "Roof"}}, (409, "CONSTRAINT_VIOLATION")),
        ({**CHANGE, "idempotency": {"collection": "todos"}}, (422, "MALFORMED_REQUEST")),
        ({"target": TARGET, "condition": 5}, (422, "MALFORMED_REQUEST")),
        ({"target": TARGET, "condition": {"n": 1}}, (422, "MALFORMED_REQUEST")),
        ({"target": TARGET, "condition": {"n": {"$near": 1}}}, (422, "MALFORMED_REQUEST")),
        ({"target": TARGET, "condition": {}, "also": [CHANGE] * 1001}, (422, "MALFORMED_REQUEST")),
        ({"target": TARGET, "condition": {}, "also": [{**CHANGE, "type": "x"}]}, (422, "MALFORMED_REQUEST")),
        ({"target": {**TARGET, "recordId": ""}, "condition": {}}, (422, "INVALID_OPERATION")),
        ({"target": {**TARGET, "recordId": "\ud800"}, "condition": {}}, (422, "INVALID_OPERATION")),
        ({"target": {**TARGET, "collection": "nope"}, "condition": {}}, (422, "INVALID_OPERATION")),
        ({"target": TARGET, "condition": {}, "idempotency": {**TARGET, "recordId": ""}}, (422, "INVALID_OPERATION")),
    ],
)
async def test_a_write_that_can_not_be_made_is_told_why(back_end: BackEnd, body: Any, refused: tuple[int, str]) -> None:
    before = back_end.host.server.get_status().total_operations
    assert problem(await back_end.apply(body)) == refused
    assert back_end.host.server.get_status().total_operations == before


async def test_a_write_is_json(back_end: BackEnd) -> None:
    body = json.dumps(CHANGE).encode()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        async with http_client(back_end.host.port) as client:
            headers = {**_headers(None), "content-type": media_type}
            answer = await client.ask("/__kora/data/apply", "POST", body, headers)
            assert problem(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert (await back_end.client.ask("/__kora/data/apply", "POST", body, _headers(None))).status == 200


async def test_a_write_has_a_limit(back_end: BackEnd) -> None:
    length = {"content-length": str(data_module.MAX_WRITE_BYTES + 1)}
    await back_end.client.say(head("/__kora/data/apply", "POST", **length))
    assert problem(await back_end.client.hear("POST")) == (413, "REQUEST_ENTITY_TOO_LARGE")


# -- on behalf of somebody

ALICE = {"todos": {"owner": "alice"}}


async def test_a_request_in_a_scope_sees_nothing_else(back_end: BackEnd) -> None:
    assert await back_end.ids("todos", ALICE) == "ac"
    assert await back_end.ids("todos", ALICE, **{"where.owner": "bob"}) == ""
    assert (await back_end.get("todos", ALICE, count="true")).json["total"] == 2
    lines = await back_end.get("todos", ALICE, accept=LINES_TYPE)
    assert [json.loads(line)["id"] for line in lines.body.splitlines()] == ["a", "c"]
    assert (await back_end.get("todos/a", ALICE)).status == 200
    hidden, missing = await back_end.get("todos/b", ALICE), await back_end.get("todos/zz", ALICE)
    assert problem(hidden) == (404, "NOT_FOUND")
    assert hidden.body == missing.body
    assert problem(await back_end.get("apply", ALICE)) == (403, "SCOPE_VIOLATION")
    assert problem(await back_end.get("apply/x", ALICE)) == (403, "SCOPE_VIOLATION")


async def test_a_request_in_a_scope_changes_nothing_else(back_end: BackEnd) -> None:
    own = {"type": "update", "collection": "todos", "recordId": "a", "data": {"n": 9}}
    assert (await back_end.apply(own, ALICE)).status == 200
    for change in (
        {**own, "recordId": "b"},
        {**own, "data": {"owner": "bob"}},
        {**own, "recordId": "b", "data": {"owner": "alice"}},
        {**CHANGE, "data": {"owner": "bob"}},
        {"target": {**TARGET, "recordId": "c"}, "condition": {}, "also": [{**own, "recordId": "b"}]},
    ):
        assert problem(await back_end.apply(change, ALICE)) == (403, "SCOPE_VIOLATION")
    peek = {"target": {"collection": "todos", "recordId": "b"}, "condition": {"owner": {"$eq": "bob"}}}
    assert problem(await back_end.apply(peek, ALICE)) == (409, "CONDITION_NOT_MET")
    assert (await back_end.apply(peek)).status == 200
    read_only = {"todos": {"owner": "alice", "__readonly": True}}
    assert await back_end.ids("todos", read_only) == "ac"
    assert problem(await back_end.apply(own, read_only)) == (403, "SCOPE_VIOLATION")


async def test_a_scope_is_any_text(back_end: BackEnd) -> None:
    await back_end.insert("z", title="Z", owner="zoë 😀")
    assert await back_end.ids("todos", {"todos": {"owner": "zoë 😀"}}) == "z"
    as_utf8 = json.dumps({"todos": {"owner": "zoë 😀"}}, ensure_ascii=False).encode().decode("latin-1")
    await back_end.client.say(head("/__kora/data/todos", "GET", f"x-kora-scope: {as_utf8}"))
    assert [one["id"] for one in (await back_end.client.hear("GET")).json["records"]] == ["z"]


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "null",
        "[]",
        '"todos"',
        "{",
        '{"todos": {"owner": "alice"}',
        '{"todos": null}',
        '{"todos": {"owner": ["alice"]}}',
        '{"todos": {"owner": {"$in": ["alice"]}}}',
        '{"todos": {"ownr": "alice"}}',
        '{"todo": {"owner": "alice"}}',
        '{"todos": {"__readonly": "yes"}}',
        '{"todos": {"owner": "alice"}}, {"todos": {}}',
        '{"*": {}}',
        "{" * 9000,
    ],
)
async def test_a_scope_that_can_not_be_read_is_never_no_scope(back_end: BackEnd, scope: str) -> None:
    before = back_end.host.server.get_status().total_operations
    assert problem(await back_end.get("todos", scope)) == (400, "INVALID_SCOPE")
    assert problem(await back_end.get("todos/a", scope)) == (400, "INVALID_SCOPE")
    assert problem(await back_end.apply(CHANGE, scope)) == (400, "INVALID_SCOPE")
    assert back_end.host.server.get_status().total_operations == before


@pytest.mark.parametrize("lines", [("X-Kora-Scope: {}", "x-kora-scope: {}"), ("x-kora-scope: \xff",)])
async def test_two_scopes_are_no_scope_nor_is_what_is_no_text(back_end: BackEnd, lines: tuple[str, ...]) -> None:
    await back_end.client.say(head("/__kora/data/todos", "GET", *lines))
    assert problem(await back_end.client.hear("GET")) == (400, "INVALID_SCOPE")


# -- who may ask, and what there is


@pytest.mark.parametrize(
    "path", ["/__kora/data/todos", "/__kora/data/todos/a", "/__kora/data/apply", "/__kora/openapi.json"]
)
async def test_only_the_token_opens_it(back_end: BackEnd, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        refused = await back_end.client.ask(path, headers=headers)
        assert problem(refused) == (401, "UNAUTHORIZED")
        assert refused.headers["www-authenticate"] == "Bearer"
    other_site = {**_headers(None), "origin": "https://evil.example"}
    assert problem(await back_end.client.ask(path, headers=other_site)) == (403, "FORBIDDEN")
    refused = await back_end.client.ask("/__kora/data/apply", "POST", json.dumps(CHANGE).encode())
    assert problem(refused) == (401, "UNAUTHORIZED")
    assert back_end.host.server.get_status().total_operations == 3


async def test_without_a_token_of_its_own_it_is_off() -> None:
    async with running_server(access=Access(Tokens(admin="a"))) as host, http_client(host.port) as client:
        answer = await client.ask("/__kora/data/todos", headers={"authorization": "Bearer a"})
        assert problem(answer) == (403, "FORBIDDEN")
        assert "admin.data_token" in answer.json["message"]


async def test_other_methods_are_405(back_end: BackEnd) -> None:
    for path, method, allow in (("todos", "POST", "GET, HEAD"), ("todos/a", "DELETE", "GET, HEAD")):
        answer = await back_end.client.ask(f"/__kora/data/{path}", method, headers=_headers(None))
        assert problem(answer) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == allow


async def test_without_a_schema_it_writes_and_says_why_it_does_not_read() -> None:
    async with AsyncExitStack() as stack:
        back_end = await served(stack, None)
        change = {"type": "insert", "collection": "anything", "recordId": "x", "data": {"owner": "alice"}}
        assert (await back_end.apply(change)).status == 200
        assert problem(await back_end.get("anything")) == (409, "NO_SCHEMA")
        assert problem(await back_end.get("anything/x")) == (409, "NO_SCHEMA")
        moved = {**change, "type": "update", "data": {"n": 1}}
        assert (await back_end.apply(moved, {"anything": {"owner": "alice"}})).status == 200
        assert problem(await back_end.apply(moved, {"anything": {"owner": "bob"}})) == (403, "SCOPE_VIOLATION")
        document = (await back_end.client.ask("/__kora/openapi.json", headers=_headers(None))).json
        assert list(document["paths"]) == ["/__kora/data/apply"]


class Silent(MemoryStore):
    """Does not answer questions, once it is told so."""

    silent = False

    def find_record(self, collection: str, record_id: str) -> Any:
        if self.silent:
            raise StoreUnavailable("secret of the store")
        return super().find_record(collection, record_id)

    def stream_collection(self, *asked: Any) -> Any:
        if self.silent:
            raise StoreUnavailable("secret of the store")
        return super().stream_collection(*asked)


async def test_a_store_that_does_not_answer_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Silent()
    async with AsyncExitStack() as stack:
        back_end = await served(stack, store=store)
        await back_end.insert("a", title="A")
        store.silent = True
        for path in ("todos", "todos/a"):
            answer = await back_end.get(path)
            assert problem(answer) == (503, "STORE_UNAVAILABLE")
            assert answer.headers["retry-after"]
            assert b"secret" not in answer.body


async def test_lines_break_off_when_the_store_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the body is missing, so nobody takes it for all."""
    monkeypatch.setattr(data_module, "PART_RECORDS", 1)
    store = Silent()
    part = data_module._taken

    def taken(*arguments: Any) -> Any:
        store.silent = True
        return part(*arguments)

    monkeypatch.setattr(data_module, "_taken", taken)
    async with AsyncExitStack() as stack:
        back_end = await served(stack, store=store)
        for record_id in "abc":
            await back_end.insert(record_id, title=record_id)
        await back_end.client.say(head("/__kora/data/todos", accept=LINES_TYPE))
        answer = await back_end.client.rest()
        assert b'"id": "a"' in answer
        assert not answer.endswith(b"0\r\n\r\n")


async def test_reads_leave_readers_of_the_store_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once, two are answered at a time."""
    running, most = 0, 0

    class Slow(MemoryStore):
        def find_record(self, collection: str, record_id: str) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            time.sleep(0.01)
            running -= 1
            return None

    async with AsyncExitStack() as stack:
        back_end = await served(stack, store=Slow())

        async def ask() -> None:
            async with http_client(back_end.host.port) as client:
                assert (await BackEnd(client, back_end.host).get("todos/x")).status == 404

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert most <= data_module.CONCURRENT_READS


async def test_the_document_is_about_the_schema(back_end: BackEnd) -> None:
    answer = await back_end.client.ask("/__kora/openapi.json", headers=_headers(None))
    assert (answer.status, answer.json["openapi"]) == (200, "3.1.0")
    assert set(answer.json["paths"]) == {
        "/__kora/data/todos",
        "/__kora/data/todos/{id}",
        "/__kora/data/apply",
        "/__kora/data/apply/{id}",
    }
    assert {"get", "post"} == answer.json["paths"]["/__kora/data/apply"].keys()
    record = answer.json["components"]["schemas"]["record.todos"]
    assert record["required"] == ["id", *SCHEMA.collections["todos"].fields, "_created_at", "_updated_at"]
    assert answer.json["security"] == [{"token": []}]
    assert DEFAULT_BODY_BYTES < data_module.MAX_WRITE_BYTES
