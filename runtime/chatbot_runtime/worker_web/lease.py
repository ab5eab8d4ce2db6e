"""Name of the lease that makes one worker-web the only one of its number."""


def lease_name(number: str) -> str:
    """Return the name of a number's row in `worker_leases`."""
    return f"web:{number}"
