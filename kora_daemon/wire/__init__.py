"""Bytes to messages and back. Wire names (camelCase, `operation-batch`) are known here only."""
