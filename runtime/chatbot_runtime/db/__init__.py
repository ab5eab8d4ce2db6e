"""PostgreSQL: engine, tables, compatibility of the schema, leases."""
