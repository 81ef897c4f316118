"""The schema file: JSON as `defineSchema()` returns it, or the same in TOML (store.md section 2, docs/schema.md).

`load` opens a file, `document` reads its parts in turn: `collections` with `fields` and `states`, `relations`, `sync`,
`migrations`. They share `part`, a value that knows its place in the file, and `names`.
"""

from kora_daemon.schema_file.document import read_schema
from kora_daemon.schema_file.load import load_schema

__all__ = ["load_schema", "read_schema"]
