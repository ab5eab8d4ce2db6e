"""A real Kubernetes on one Linux machine, for the demo and for tests: `python -m testbed --help`."""
