"""Pure state machines: what is, and what is to be done next, become new state, targets and effects."""
