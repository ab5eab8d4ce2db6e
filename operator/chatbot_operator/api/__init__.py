"""The API that users see: frozen pydantic models, the single source of `crds/` and of the reference."""
