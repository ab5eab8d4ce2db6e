"""The engine: one level-triggered loop per object, from wake-up to applied objects (design section 4)."""
