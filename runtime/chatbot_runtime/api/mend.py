"""Mends JSON that only a strict parser refuses. Pure.

A display name cut in the middle of an emoji is half a surrogate pair, and one such name must not cost the good messages beside it.
"""

import json
import math


def mend_json(body: bytes) -> bytes | None:
    """Return the body as strict JSON, or None if it is not JSON at all.

    Half surrogate pairs and bytes that are not UTF-8 become replacement characters; NaN and infinite numbers become null.
    """
    try:
        value = json.loads(body.decode("utf-8", "replace"), parse_constant=lambda _: None, parse_float=_finite)
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
