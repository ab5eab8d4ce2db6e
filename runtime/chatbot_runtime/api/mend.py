"""Mends JSON that only a strict parser refuses. Pure.

A display name cut in the middle of an emoji is half a surrogate pair, and one such name must not cost the good messages beside it. Nor must
a part that is nested more deeply than parsers and encoders go.
"""

import json
import math
import re
from typing import Final

from chatbot_runtime.channels.cloud.webhook import LEVELS_MAX

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string, so that what is in it is not looked at, or a bracket."""


def mend_json(body: bytes) -> bytes | None:
    """Return the body as strict JSON, or None if it is not JSON at all.

    Half surrogate pairs and bytes that are not UTF-8 become replacement characters; NaN, infinite numbers and what is nested more than
    `LEVELS_MAX` levels deep become null.
    """
    try:
        value = json.loads(_cut(body).decode("utf-8", "replace"), parse_constant=lambda _: None, parse_float=_finite)
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None


def _cut(body: bytes) -> bytes:
    """Replace each part that begins below the deepest level by null."""
    kept, begin, level = [], 0, 0
    for token in _TOKEN.finditer(body):
        if token[0] in (b"[", b"{"):
            level += 1
            if level == LEVELS_MAX + 1:
                kept += [body[begin : token.start()], b"null"]
        elif token[0] in (b"]", b"}"):
            if level == LEVELS_MAX + 1:
                begin = token.end()
            level -= 1
    return b"".join([*kept, body[begin:]])


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
