"""Where kopf ends: the only place, beside `main`, that imports it."""
