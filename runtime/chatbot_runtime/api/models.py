"""The form of everything the API takes and gives: camelCase outside, unknown fields refused."""

import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator
from pydantic.alias_generators import to_camel

_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")
"""What JSON can say and neither PostgreSQL nor a hash can take: NUL, and half of a surrogate pair."""


class ApiModel(BaseModel):
    """Base of request and response models."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and _UNUSABLE.search(text):
            raise ValueError("holds a character that can't be stored")
        return value
