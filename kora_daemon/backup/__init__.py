"""Backups: the log in one file that is written and read as a stream (store.md section 9)."""

from kora_daemon.backup.errors import BackupError, BackupTooLarge, Trouble
from kora_daemon.backup.export import BackupSource, export_backup
from kora_daemon.backup.verify import Backup, verify_backup

__all__ = [
    "Backup",
    "BackupError",
    "BackupSource",
    "BackupTooLarge",
    "Trouble",
    "export_backup",
    "verify_backup",
]
