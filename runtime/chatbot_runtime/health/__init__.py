"""What a process knows about its components, and how it tells Kubernetes and people."""
