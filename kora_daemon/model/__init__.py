"""What Kora talks about. Pure: no clock, no randomness, no I/O."""
