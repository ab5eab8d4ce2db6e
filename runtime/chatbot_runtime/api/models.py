"""The form of everything the API takes and gives: camelCase outside, unknown fields refused."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of request and response models."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")
