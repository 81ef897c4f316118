"""What is wrong with a host, a database or a configuration, and what to do about it: `kora doctor`.

A check looks at one thing and says what it found (`checks`). Each runs in a thread of its own, beside the others, so
that one which crashes or hangs is one failure among findings (`examination`). None changes anything. There is a module
for each subject; `rounds` has them all, in the order in which they are told.
"""
