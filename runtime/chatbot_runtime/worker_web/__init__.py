"""The process that serves one WhatsApp Web number: its lease, its session's state, its probes."""
