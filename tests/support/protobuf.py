"""The protobuf frames of a stock client: those that simulated devices write and read."""

from kora_daemon.torture.protobuf import chunk, from_binary, json_text, packed_operation, to_binary, varint

__all__ = ["chunk", "from_binary", "json_text", "packed_operation", "to_binary", "varint"]
