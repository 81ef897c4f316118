"""The command `kora` (config.md)."""
