"""People: passwords, sessions, CSRF tokens, tickets and login limits."""
