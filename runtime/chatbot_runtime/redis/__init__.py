"""Redis wakes, paces and caches. It may vanish at any time without losing a message."""
