"""From the log to records: how operations fold, and how records look as rows. Pure: no clock, no randomness, no I/O."""
