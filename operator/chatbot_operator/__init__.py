"""The chatbot operator: the operations runbook of a WhatsApp chatbot as controller logic."""
