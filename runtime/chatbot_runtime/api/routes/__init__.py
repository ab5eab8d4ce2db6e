"""Routes, one noun a module. Each module has `add(app)`; `api.access.RULES` says who may call them."""
