"""The whole daemon on simulated time, with simulated devices, networks, disks and bad luck; `kora torture` runs it.

    campaign    many seeds, in processes beside each other
    run         one seed: a world, its schedule of faults, the oracle's judgement, a digest of what has happened
    world       the daemon's lives one after the other, the devices, the network between them
    faults      what goes wrong in it, by a schedule that is drawn beforehand
    oracle      what must be true, held against what has happened: during the run (`witness`) and after it

What is real: server, sessions, writer, readers, hub, presence, HTTP, WebSockets, codecs, judgement, stores. What is
not: sockets, clocks, threads, chance, and the devices, which follow the rules of the published clients.
"""
