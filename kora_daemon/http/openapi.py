"""The OpenAPI 3.1 document of the data API, made from the app's schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from kora_daemon.http.data_requests import DEFAULT_RECORDS, MAX_CHANGES, MAX_OFFSET, MAX_RECORDS, SCOPE_HEADER
from kora_daemon.http.problems import PROBLEM_TYPE
from kora_daemon.model.binary import BYTES_TAG
from kora_daemon.model.operation import MAX_NAME_LENGTH
from kora_daemon.model.schema import Collection, Field, Kind, Schema
from kora_daemon.version import VERSION

Json: TypeAlias = dict[str, Any]

_INTRODUCTION = """\
Records and trusted writes for back ends. Devices get what is written here like everything else; it is judged by the
same rules. See docs/data-api.md of Kora Daemon."""
_NAME: Json = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}
_OPERATORS = ("$eq", "$ne", "$in", "$lt", "$lte", "$gt", "$gte")
_BYTES: Json = {
    "type": "object",
    "properties": {BYTES_TAG: {"type": "string", "contentEncoding": "base64"}},
    "required": [BYTES_TAG],
    "additionalProperties": False,
}
_KINDS: Mapping[Kind, Json] = {
    "string": {"type": ["string", "null"]},
    "enum": {"type": ["string", "null"]},
    "secret": {"type": ["string", "null"]},
    "number": {"type": ["number", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "timestamp": {"type": ["number", "null"], "description": "Milliseconds since 1970."},
    "richtext": {"anyOf": [{"type": ["string", "null"]}, _BYTES]},
    "array": {"type": ["array", "null"]},
    "object": {"type": ["object", "null"]},
    "json": {"description": "Any JSON value."},
    "blob": {"type": ["object", "null"], "description": "A reference to a blob."},
}
_SINGLE: Mapping[Kind, Json] = {name: _KINDS[name] for name in ("number", "timestamp", "boolean")}
"""Kinds that are JSON to `where.FIELD`; texts it takes as they are."""
_PROBLEMS = {
    400: "The request can't be read.",
    401: "The token is missing or wrong.",
    403: "Outside the scope of this request, or from a page of another site.",
    404: "There is no such record or collection.",
    409: "The records that there are speak against it: a constraint, a reference, a condition that does not hold.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The change can't be made: a value that does not fit its field, something missing.",
    503: "The store does not answer; try again.",
}


def openapi_document(schema: Schema | None) -> Json:
    """What the data API offers with this schema; without one only writes."""
    collections = {} if schema is None else schema.collections
    paths: Json = {}
    for collection in collections.values():
        paths |= _collection_paths(collection)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kora data API", "version": VERSION, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {**paths, "/__kora/data/apply": {**paths.get("/__kora/data/apply", {}), "post": _apply()}},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "admin.data_token"}},
            "parameters": {"scope": _scope_parameter(collections)},
            "schemas": {**_common_schemas(list(collections)), **dict(_schemas(collections))},
        },
    }


def _schemas(collections: Mapping[str, Collection]) -> Iterator[tuple[str, Json]]:
    for name, collection in collections.items():
        yield f"record.{name}", _record(collection)
        yield f"fields.{name}", _fields(collection)
        yield f"change.{name}", _change({"const": name}, _ref(f"fields.{name}"))
    if not collections:
        yield "change.any", _change(_NAME, {"type": ["object", "null"]})


def _record(collection: Collection) -> Json:
    members = {
        "id": _NAME,
        **{name: _KINDS[one.kind] for name, one in collection.fields.items()},
        "_created_at": _KINDS["timestamp"],
        "_updated_at": _KINDS["timestamp"],
    }
    return {**_closed(members), "required": list(members)}


def _fields(collection: Collection) -> Json:
    members = {name: _written(one) for name, one in collection.fields.items()}
    return {"type": ["object", "null"], "properties": members}


def _written(field: Field) -> Json:
    return {"enum": [*field.enum_values, None]} if field.enum_values else _KINDS[field.kind]


def _change(collection: Json, fields: Json) -> Json:
    return {
        "type": "object",
        "properties": {
            "type": {"enum": ["insert", "update", "delete"]},
            "collection": collection,
            "recordId": {"anyOf": [_NAME, {"type": "null"}], "description": "An insert without one gets a new one."},
            "data": fields,
            "atomic": _ref("Atomic"),
        },
        "required": ["type", "collection"],
    }


def _common_schemas(names: list[str]) -> Json:
    change: Json = {"anyOf": [_ref(f"change.{name}") for name in names or ["any"]]}
    key = {"collection": {"enum": names} if names else _NAME, "recordId": _NAME}
    return {
        "Key": {**_closed(key), "required": list(key)},
        "Atomic": {
            "type": ["object", "null"],
            "description": "Field -> what is to become of its value; what devices change meanwhile adds up with it.",
            "additionalProperties": {
                "type": "object",
                "properties": {"type": {"enum": ["increment", "max", "min", "append", "remove"]}, "value": {}},
                "required": ["type", "value"],
            },
        },
        "Change": {**change, "description": "One change to one record.", **_with_idempotency()},
        "ConditionalWrite": _conditional(change),
        "Written": _written_schema(),
        "Problem": _problem_schema(),
    }


def _with_idempotency() -> Json:
    text = "A record whose being there means that this has been done before; then nothing happens."
    return {"properties": {"idempotency": {"anyOf": [_ref("Key"), {"type": "null"}], "description": text}}}


def _conditional(change: Json) -> Json:
    fields: Json = {"type": ["object", "null"]}
    operators = {name: {"type": "array"} if name == "$in" else {} for name in _OPERATORS}
    refusal = {"code": {"type": "string"}, "message": {"type": "string"}}
    return {
        "type": "object",
        "description": "Changes that happen together, or not at all: only if the target meets the condition.",
        "properties": {
            "target": _ref("Key"),
            "condition": {"type": "object", "additionalProperties": _closed(operators)},
            "update": fields,
            "atomic": _ref("Atomic"),
            "also": {"type": "array", "items": change, "maxItems": MAX_CHANGES},
            "refusal": _closed(refusal),
            **_with_idempotency()["properties"],
        },
        "required": ["target", "condition"],
        "additionalProperties": False,
    }


def _written_schema() -> Json:
    texts: Json = {"type": "array", "items": {"type": "string"}}
    warnings: Json = {**texts, "description": "On each field that was written and is not in the schema."}
    members: Json = {"result": {"enum": ["applied", "repeated"]}, "recordIds": texts, "operations": texts}
    return {
        "type": "object",
        "properties": {**members, "warnings": warnings},
        "required": list(members),
    }


def _problem_schema() -> Json:
    members: Json = {"status": {"type": "integer"}, "code": {"type": "string"}, "message": {"type": "string"}}
    more: Json = {"collection": {"type": "string"}, "recordId": {"type": "string"}}
    return {"type": "object", "properties": members | more, "required": list(members)}


def _collection_paths(collection: Collection) -> Json:
    name = collection.name
    record_id = {"name": "id", "in": "path", "required": True, "schema": _NAME}
    return {
        f"/__kora/data/{name}": {"get": _list(collection)},
        f"/__kora/data/{name}/{{id}}": {
            "get": {
                "operationId": f"find.{name}",
                "parameters": [record_id, {"$ref": "#/components/parameters/scope"}],
                "responses": _answers("The record.", _ref(f"record.{name}"), 400, 401, 403, 404, 503),
            }
        },
    }


def _list(collection: Collection) -> Json:
    page: Json = {
        "type": "object",
        "properties": {
            "records": {"type": "array", "items": _ref(f"record.{collection.name}")},
            "more": {"type": "boolean", "description": "Whether there are others behind these."},
            "total": {"type": "integer", "description": "How many there are, with count=true."},
        },
        "required": ["records", "more"],
    }
    answers = _answers("Records.", page, 400, 401, 403, 503)
    lines = {"type": "string", "description": "A record in each line; all of them unless limit says otherwise."}
    answers["200"]["content"]["application/x-ndjson"] = {"schema": lines}
    return {
        "operationId": f"list.{collection.name}",
        "parameters": [*_list_parameters(collection), {"$ref": "#/components/parameters/scope"}],
        "responses": answers,
    }


def _list_parameters(collection: Collection) -> Iterator[Json]:
    columns = ["id", *collection.fields, "_created_at", "_updated_at", "_deleted"]
    where = _closed({name: {} for name in columns})
    text = "Field -> the value it must have, exactly."
    yield {"name": "where", "in": "query", "content": {"application/json": {"schema": where}}, "description": text}
    for name, kind in (("id", "string"), *collection.kinds.items()):
        # Other kinds are JSON in a text: `where` says it better.
        if kind in ("string", "enum", "secret", *_SINGLE):
            yield _in_query(f"where.{name}", _SINGLE.get(kind, {"type": "string"}))
    yield _in_query("order_by", {"enum": columns})
    for name in ("desc", "include_deleted", "count"):
        yield _in_query(name, {"type": "boolean"})
    yield _in_query("limit", {"type": "integer", "minimum": 0, "maximum": MAX_RECORDS, "default": DEFAULT_RECORDS})
    yield _in_query("offset", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0})
    yield _in_query("after", {"type": "string", "description": "Only records with an id above; not with order_by."})


def _in_query(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _scope_parameter(collections: Mapping[str, Collection]) -> Json:
    value: Json = {"type": ["string", "number", "boolean", "null"]}
    scope: Json = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": value}}
    if collections:
        fields = {name: dict.fromkeys(("id", *one.fields), value) for name, one in collections.items()}
        scope = _closed({name: _closed(one) for name, one in fields.items()})
    text = "Collection -> field -> value: this request sees and changes nothing else, like a device with these scopes."
    return {
        "name": SCOPE_HEADER,
        "in": "header",
        "description": text,
        "content": {"application/json": {"schema": scope}},
    }


def _apply() -> Json:
    body = {"anyOf": [_ref("Change"), _ref("ConditionalWrite")]}
    return {
        "operationId": "apply",
        "parameters": [{"$ref": "#/components/parameters/scope"}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _answers("Done.", _ref("Written"), 400, 401, 403, 409, 413, 415, 422, 503),
    }


def _answers(description: str, schema: Json, *problems: int) -> Json:
    refused = {"content": {PROBLEM_TYPE: {"schema": _ref("Problem")}}}
    return {
        "200": {"description": description, "content": {"application/json": {"schema": schema}}},
        **{str(status): {"description": _PROBLEMS[status], **refused} for status in problems},
    }


def _closed(members: Json) -> Json:
    return {"type": "object", "properties": members, "additionalProperties": False}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
