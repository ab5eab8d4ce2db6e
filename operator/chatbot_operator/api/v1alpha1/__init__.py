"""chatbotops.io/v1alpha1, one module a kind."""
