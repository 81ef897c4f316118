"""Sockets, tasks and threads: the only package that knows trio."""
