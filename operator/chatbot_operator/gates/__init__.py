"""Pure verdicts: may we go on (ok, wait, stop), why, and what a person can do."""
