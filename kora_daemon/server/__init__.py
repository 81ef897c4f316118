"""The sync server: tasks, threads, transports."""
