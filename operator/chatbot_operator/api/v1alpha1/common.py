"""Building blocks shared by the kinds: model base, references, quantities, resources, scheduling, conditions."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from chatbot_operator.api.v1alpha1.schema import Rule, at_most, rules

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
SecretName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
SecretKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
Network = Annotated[str, Field(max_length=43, json_schema_extra={"format": "cidr"})]
Quantity = Annotated[
    str,
    Field(
        pattern=r"^([0-9]+(\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$",
        min_length=1,
        max_length=32,
        json_schema_extra=rules(Rule("quantity(self).isLessThan(quantity('8Ei'))", "must be less than 8Ei")),
    ),
]
"""A Kubernetes quantity as text, positive, without exponent: `500m`, `2Gi`. From 8Ei on the API server would store another amount."""
_LABEL_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?{_LABEL_NAME}"
"""A label's key: a name, before it perhaps a DNS name and a slash. Its 317 characters are 253 of the DNS name, the slash and 63."""
LabelValue = Annotated[str, Field(pattern=rf"^({_LABEL_NAME})?$", max_length=63)]
ImageReference = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9._/:]*[a-zA-Z0-9])?(:[a-zA-Z0-9_][-a-zA-Z0-9._]{0,127})?(@sha256:[a-f0-9]{64})?$",
        min_length=1,
        max_length=512,
    ),
]


class ApiModel(BaseModel):
    """Base of every spec model: frozen, camelCase in YAML, unknown fields refused."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    def to_api(self) -> dict[str, Any]:
        """Return the camelCase JSON form without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(BaseModel):
    """Base of every status model: unknown fields are kept, so that an older operator never destroys what a newer one wrote."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="allow")

    def to_api(self) -> dict[str, Any]:
        """Return the camelCase JSON form without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SecretRef(ApiModel):
    """A Secret in the instance's namespace."""

    name: SecretName = Field(description="Name of a Secret in the same namespace.")


class SecretKeyRef(ApiModel):
    """One key of a Secret in the instance's namespace."""

    name: SecretName = Field(description="Name of a Secret in the same namespace.")
    key: SecretKey = Field(description="Key inside the Secret.")


class ResourceAmounts(ApiModel):
    """Amounts of compute resources."""

    cpu: Quantity | None = Field(default=None, description="CPU, for example 250m.")
    memory: Quantity | None = Field(default=None, description="Memory, for example 384Mi.")


class Resources(ApiModel):
    """What a container asks for and may use at most."""

    model_config = ConfigDict(json_schema_extra=rules(at_most("cpu"), at_most("memory")))

    requests: ResourceAmounts | None = Field(
        default=None,
        description="Guaranteed amounts; the scheduler places pods by them. An absent one is the default, but at most the limit.",
    )
    limits: ResourceAmounts | None = Field(
        default=None,
        description="Most the container may use. Absent memory is the default, but at least the request; absent CPU is no limit.",
    )


class TolerationOperator(StrEnum):
    """How a toleration matches."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    """Effects a toleration may tolerate."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


# A pod with such a toleration is refused, long after the instance was accepted (ValidateTolerations of Kubernetes).
_TOLERATION_RULES = (
    Rule("self.operator == 'Exists' || (has(self.key) && self.key != '')", "key is required unless operator is Exists", "key"),
    Rule("self.operator == 'Equal' || !has(self.value) || self.value == ''", "value is only for operator Equal", "value"),
    Rule(
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerationSeconds is only for effect NoExecute",
        "tolerationSeconds",
    ),
)


class Toleration(ApiModel):
    """A Kubernetes toleration."""

    model_config = ConfigDict(json_schema_extra=rules(*_TOLERATION_RULES))

    key: str | None = Field(
        default=None, pattern=f"^({_LABEL_KEY})?$", max_length=317, description="Taint key; empty with Exists matches all."
    )
    operator: TolerationOperator = Field(default=TolerationOperator.EQUAL, description="Equal or Exists.")
    value: LabelValue | None = Field(default=None, description="Taint value for Equal.")
    effect: TaintEffect | None = Field(default=None, description="Taint effect; absent matches all.")
    toleration_seconds: int | None = Field(default=None, ge=0, description="For NoExecute: seconds to stay.")


_SELECTOR_KEYS = Rule(
    f"self.all(key, key.indexOf('/') <= 253 && key.matches('^{_LABEL_KEY}$'))", "keys must be label names, as disk or example.com/disk"
)


class Scheduling(ApiModel):
    """Where pods may run."""

    node_selector: dict[str, LabelValue] | None = Field(
        default=None,
        max_length=16,
        description="Labels a node must have, keys as disk or example.com/disk.",
        json_schema_extra=rules(_SELECTOR_KEYS),
    )
    tolerations: list[Toleration] | None = Field(default=None, max_length=16, description="Taints the pods tolerate.")
    priority_class_name: SecretName | None = Field(default=None, description="PriorityClass of the pods.")


class Condition(StatusModel):
    """A Kubernetes condition; `lastTransitionTime` moves only when `status` flips."""

    type: str = Field(max_length=64, description="CamelCase type.")
    status: str = Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(max_length=128, description="CamelCase reason, one word a machine can match.")
    message: str = Field(default="", max_length=1024, description="What is wrong, what happens next, what to do.")
    observed_generation: int = Field(description="Generation of the spec that this was computed from.")
    last_transition_time: str = Field(description="RFC 3339 time of the last change of status.", json_schema_extra={"format": "date-time"})
