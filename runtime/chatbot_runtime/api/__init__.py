"""The HTTP API: who may call what, how requests are framed, and the routes."""
