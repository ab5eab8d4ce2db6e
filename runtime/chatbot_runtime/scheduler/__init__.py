"""The scheduler process: bot, Cloud API sender, statuses, audit seals, periodic jobs, queue metrics."""
