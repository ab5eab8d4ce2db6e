"""Pure, frozen types that every layer above shares: what was seen, what is wanted, what was decided."""
