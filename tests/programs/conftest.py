"""Tests that need a program which pip can't bring.

Where one is missing its tests are not collected; with KORA_TEST_PROGRAMS=required (as in CI) that is an error.
"""

from __future__ import annotations

import os
import shutil

import pytest

NEEDED = {
    "test_app_in_chromium.py": "chromium",
    "test_behind_nginx.py": "nginx",
    "test_curl.py": "curl",
    "test_dashboard_in_chromium.py": "chromium",
    "test_manual.py": "mandoc",
    "test_pooler.py": "pgbouncer",
    "test_systemd_units.py": "systemd-analyze",
}
"""Test file -> the program, which is also the name of its Debian package, unless that is below."""
PACKAGES = {"nginx": "nginx-light", "systemd-analyze": "systemd"}

MISSING = {file: program for file, program in NEEDED.items() if shutil.which(program) is None}
if MISSING and os.environ.get("KORA_TEST_PROGRAMS") == "required":
    raise pytest.UsageError(f"apt-get install {' '.join(sorted({PACKAGES.get(one, one) for one in MISSING.values()}))}")
collect_ignore = sorted(MISSING)
