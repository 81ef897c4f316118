"""What is in the log before something is measured."""

from __future__ import annotations

from kora_daemon.bench import messages as say
from kora_daemon.bench.operations import Author, chunks, records_for
from kora_daemon.bench.rig import Rig
from kora_daemon.bench.samples import Samples
from kora_daemon.bench.sending import Window

_AT_A_TIME = 20_000
"""Operations that are made and uploaded before the next ones are."""
_BATCH, _WINDOW = 200, 8


def fill(rig: Rig, least: int, updates: int, payload_bytes: int) -> int:
    """See to it that the log has so many operations at least; where it ends."""
    start = rig.read_log()[0].watermark
    missing = least - start
    if missing <= 0:
        return start
    writer, acks = rig.client(start), Samples()
    author = Author(writer.node_id, payload_bytes=payload_bytes, records=records_for(missing, updates))
    rig.open([writer])
    while missing > 0 and writer.is_streaming:
        batches = [say.upload(one) for one in chunks(author.write(min(missing, _AT_A_TIME)), _BATCH)]
        window = Window(writer, batches, _WINDOW, acks)
        window.begin()
        rig.wait(lambda: not window.left, "uploads that were not acknowledged")  # noqa: B023  it waits right here
        missing -= _AT_A_TIME
    writer.close()
    return rig.read_log(start)[0].watermark
