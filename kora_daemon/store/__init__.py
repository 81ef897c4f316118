"""The log and what is kept beside it. Synchronous: the server decides which thread a call runs in."""
