"""When to try again. Pure but for the randomness it is given."""

from collections.abc import Callable
from typing import Final

BASE_S: Final = 2.0
CAP_S: Final = 300.0


def backoff_s(failures: int, uniform: Callable[[float, float], float], retry_after_s: float | None = None) -> float:
    """Return seconds to wait: full jitter between 0 and 2 s x 2**n, at most 5 minutes; never before the provider's Retry-After.

    Args:
        failures: failures before this one, 0 for the first.
        uniform: `random.uniform`.
        retry_after_s: what the provider asked for.
    """
    jittered = uniform(0.0, min(CAP_S, BASE_S * 2 ** min(failures, 16)))
    return max(jittered, retry_after_s or 0.0)
