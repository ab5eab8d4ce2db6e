"""WhatsApp Cloud API: webhooks, client, errors, sender."""
