"""Kora Daemon."""
