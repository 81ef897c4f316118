"""The data API held against its own OpenAPI document by schemathesis: every parameter, every field, far from sense.

Nothing may be a 5xx, every answer is as the document says, what breaks the document is refused, and nothing opens
without the token.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.process import Daemon

TOKEN = "data-t0ken"
CONFIG = f"""
schema = "schema.json"
[server]
host = "127.0.0.1"
port = 0
[store]
kind = "memory"
[admin]
data_token = "{TOKEN}"
"""
SCHEMA = {
    "version": 1,
    "collections": {
        "todos": {
            "fields": {
                "title": {"kind": "string"},
                "n": {"kind": "number"},
                "state": {"kind": "enum", "enumValues": ["open", "done"]},
                "body": {"kind": "richtext"},
            },
            "constraints": [{"type": "unique", "fields": ["title"]}],
        }
    },
}
OPTIONS = (
    "--seed=1",
    "--max-examples=15",
    "--phases=coverage,fuzzing",
    # What is in order by its form may still be refused: by the records, or by what the form can't say.
    "--exclude-checks=positive_data_acceptance",
    "--continue-on-failure",
    "--no-shrink",
    "--generation-database=none",
)


def test_it_does_what_its_document_says(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    with Daemon(tmp_path, CONFIG) as daemon:
        fuzzed = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"http://127.0.0.1:{daemon.port}/__kora/openapi.json",
                f"--header=Authorization: Bearer {TOKEN}",
                *OPTIONS,
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert fuzzed.returncode == 0, fuzzed.stdout + fuzzed.stderr
        assert daemon.stop() == 0
    assert "http.failed" not in daemon.logged()
    assert "batch_failed" not in daemon.logged()
    assert "3 selected / 3 total" in fuzzed.stdout
