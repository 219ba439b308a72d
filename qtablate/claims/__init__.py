"""Claims: which process works on what in a folder that several processes, on several machines, may share.

A claim is a file, `KEY.GENERATION.json`, that appears whole or not at all: of several processes that want the same thing one
creates it. Its owner writes it anew every few seconds, with a count that grows. A claim whose owner is gone is taken over by
creating the next generation, which again one process alone can do; the highest generation is the claim that holds. No file
lock is used: those of network file systems cannot be relied on.

Before an owner writes what a claim stands for it creates the next generation itself: where another process has taken over it
cannot, however old what it reads is.

An owner is gone
- where it was a process of this machine that no longer runs,
- where it was an earlier run of the same job of a scheduler, which runs a job once at a time,
- where its count has not changed for STALE_AFTER seconds of the observer's own clock. Clocks of two machines are
  never compared, and one that jumps misleads nobody.
"""
