"""Campaigns that need root and something of the kernel are collected where that is to be had."""

from __future__ import annotations

import shutil
import subprocess

NEEDED = {
    "test_full_disk.py": (
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        "file systems can't be mounted",
    ),
    "test_half_open.py": (
        ["unshare", "--net", "sh", "-c", "ip link && iptables --list && nsenter --version"],
        "network namespaces or iptables can't be had",
    ),
}
"""Test file -> a command that works where it can be run, and what it means where it does not."""


def _works(command: list[str]) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


MISSING = {file: reason for file, (command, reason) in NEEDED.items() if not _works(command)}
collect_ignore = sorted(MISSING)
