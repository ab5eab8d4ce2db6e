"""The bot: what it understands, what it answers, and when it hands over to a person."""
