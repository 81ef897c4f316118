"""A load generator: how much a server carries, how fast, and at what cost to its machine.

A mode is a module with its load (the parameters) and `run`, which works on a rig and returns figures: `ingest`,
`fan_out`, `first_sync`, `connect`, `idle`, `mixed`, `awareness`, `soak`; `modes` has them all. What they stand on:

* `rig`         the server that is measured (`own_daemon`, or any other by its URL) and the clients
* `client`      one device: a socket without a task, the rules of the wire, counters
* `loop`        one epoll for all of them; `frames`, `messages`: bytes to messages and back
* `operations`  what clients write, made before the clock starts; `sending` when it leaves, `deliveries` where it got
* `footprint`   CPU, memory, descriptors and threads from /proc; `samples` exact percentiles; `report` what was found
"""
