"""The protobuf envelope and what is inside it (wire.md section 8), as message classes of the protobuf library.

The reference writes these bytes by hand and no .proto was ever published, so the descriptor is built here. One rule
covers presence: numbers and booleans are written whenever they are set, also 0 and false; texts only when not empty.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_BOOL = FieldDescriptorProto.TYPE_BOOL
_BYTES = FieldDescriptorProto.TYPE_BYTES
_INT32 = FieldDescriptorProto.TYPE_INT32
_INT64 = FieldDescriptorProto.TYPE_INT64
_MESSAGE = FieldDescriptorProto.TYPE_MESSAGE
_TEXT = FieldDescriptorProto.TYPE_STRING
_UINT32 = FieldDescriptorProto.TYPE_UINT32
_ONE, _MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED

_PACKAGE = "kora"
_TIMESTAMP = {1: ("wall_time", _INT64), 2: ("logical", _UINT32), 3: ("node_id", _TEXT)}
_OPERATION = {
    1: ("id", _TEXT),
    2: ("node_id", _TEXT),
    3: ("type", _TEXT),
    4: ("collection", _TEXT),
    5: ("record_id", _TEXT),
    6: ("data_json", _TEXT),
    7: ("previous_data_json", _TEXT),
    8: ("timestamp", "Timestamp"),
    9: ("sequence_number", _INT64),
    10: ("causal_deps", [_TEXT]),
    11: ("schema_version", _INT32),
    12: ("has_data", _BOOL),
    13: ("has_previous_data", _BOOL),
}
_VECTOR_ENTRY = {1: ("key", _TEXT), 2: ("value", _INT64)}
_ENVELOPE = {
    1: ("type", _TEXT),
    2: ("message_id", _TEXT),
    3: ("node_id", _TEXT),
    # Entries of a map look like this on the wire.
    4: ("version_vector", ["Envelope.VersionVectorEntry"]),
    5: ("schema_version", _INT32),
    6: ("auth_token", _TEXT),
    7: ("supported_wire_formats", [_TEXT]),
    8: ("accepted", _BOOL),
    9: ("reject_reason", _TEXT),
    10: ("selected_wire_format", _TEXT),
    # Operations, left as they are: they are counted before they are read, and are sent as they were packed once.
    11: ("operations", [_BYTES]),
    12: ("is_final", _BOOL),
    13: ("batch_index", _UINT32),
    14: ("acknowledged_message_id", _TEXT),
    15: ("last_sequence_number", _INT64),
    16: ("error_code", _TEXT),
    17: ("error_message", _TEXT),
    18: ("retriable", _BOOL),
    19: ("server_time", _INT64),
    20: ("request_id", _TEXT),
    21: ("hash", _TEXT),
    22: ("chunk_bytes", _TEXT),
    23: ("has_bytes", _BOOL),
    25: ("blob_storage_enabled", _BOOL),
    26: ("operation_id", _TEXT),
    27: ("collection", _TEXT),
    28: ("record_id", _TEXT),
    29: ("last_delivery_sequence", _INT64),
    30: ("base_delivery_sequence", _INT64),
    31: ("max_delivery_sequence", _INT64),
    32: ("delivery_sequence", _INT64),
    33: ("server_max_delivery_sequence", _INT64),
}


def _describe(message: DescriptorProto, fields: dict[int, tuple[str, Any]], always: str = "") -> None:
    """Give a message its fields: number -> name and kind. The kind is a list when there may be many.

    `always` names a text that is written even when it is empty.
    """
    for number, (name, kind) in fields.items():
        label, of = (_MANY, kind[0]) if isinstance(kind, list) else (_ONE, kind)
        field = message.field.add(name=name, number=number, label=label)
        if isinstance(of, str):
            field.type, field.type_name = _MESSAGE, f".{_PACKAGE}.{of}"
            continue
        field.type = of
        if label == _ONE and (of != _TEXT or name == always):
            field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="kora.proto", package=_PACKAGE, syntax="proto3")
    _describe(file.message_type.add(name="Timestamp"), _TIMESTAMP, always="node_id")
    _describe(file.message_type.add(name="Operation"), _OPERATION)
    envelope = file.message_type.add(name="Envelope")
    _describe(envelope, _ENVELOPE)
    entry = envelope.nested_type.add(name="VersionVectorEntry")
    entry.options.map_entry = True
    for number, (name, kind) in _VECTOR_ENTRY.items():
        entry.field.add(name=name, number=number, label=_ONE, type=kind)
    return file


_POOL = DescriptorPool()
_POOL.Add(_file())

Envelope: type[Message] = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.Envelope"))
PackedOperation: type[Message] = GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.Operation"))
