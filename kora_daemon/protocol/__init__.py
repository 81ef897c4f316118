"""The sans-io core: what a session may say, hear and want. No sockets, no clocks, no threads."""
