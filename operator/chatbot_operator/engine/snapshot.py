"""Gathers, once and before anything is decided, all that a pass knows of one instance."""

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from chatbot_operator.api.v1alpha1.common import ApiModel, StatusModel
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.clock import Clock
from chatbot_operator.desired import names
from chatbot_operator.engine.contest import Contests
from chatbot_operator.engine.instances import Instance
from chatbot_operator.engine.restarts import RestartSlots
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.errors import StatusUnreadable
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.snapshot import EffectFailure, Identity, OperatorFacts, SecretFacts, Snapshot

SpecT = TypeVar("SpecT", bound=ApiModel)
StatusT = TypeVar("StatusT", bound=StatusModel)

MAX_PROBLEMS = 5
"""Validation errors that are named; more would not fit a condition."""


class Children(Protocol):
    """What of the reflectors is needed here."""

    def children(self, namespace: str, name: str) -> Mapping[ObjectKey, ChildState]:
        """Return the children of one instance."""


class Secrets(Protocol):
    """What of the reader of Secrets is needed here."""

    async def facts(
        self, namespace: str, names: Iterable[str], instance_uid: str, own: Container[str] = ()
    ) -> Mapping[str, SecretFacts | None]:
        """Return the facts of each named Secret; those in `own` are known from the watch alone."""

    def next_check(self, namespace: str, names: Iterable[str], instance_uid: str) -> float | None:
        """Return in how many seconds a Secret that no watch shows is read again."""


class Namespaces(Protocol):
    """What of the reader of namespaces is needed here."""

    async def terminating(self, namespace: str) -> bool | None:
        """Return whether a namespace is terminating."""


class SecretNames(Protocol):
    """Names Secrets of an instance (`desired.references`)."""

    def __call__(self, name: str, spec: ChatbotInstanceSpec) -> Collection[str]:
        """Return the names."""


class Observer:
    """Makes snapshots."""

    def __init__(
        self,
        children: Children,
        secrets: Secrets,
        namespaces: Namespaces,
        secret_names: SecretNames,
        own_secret_names: SecretNames,
        contests: Contests,
        slots: RestartSlots,
        operator: OperatorFacts,
        clock: Clock,
    ) -> None:
        self._children = children
        self._secrets = secrets
        self._namespaces = namespaces
        self._secret_names = secret_names
        self._own_secret_names = own_secret_names
        self._contests = contests
        self._slots = slots
        self._operator = operator
        self._clock = clock

    async def observe(self, key: NamespacedName, instance: Instance, failures: tuple[EffectFailure, ...]) -> Snapshot:
        """Return the snapshot of an instance.

        Args:
            key: Which instance.
            instance: Its newest version.
            failures: What went wrong in its last effects.

        Raises:
            StatusUnreadable: Its status can't be parsed.
            KubeError: A referenced Secret could not be read.
        """
        body = instance.read()
        identity = identity_of(body)
        spec, spec_error = parse_spec(ChatbotInstanceSpec, body["spec"])
        children = self._children.children(key.namespace, key.name)
        status = parse_status(ChatbotInstanceStatus, body["status"])
        ending = identity.deleting or _is_refused(status, failures) or _claim_goes(identity, status, children)
        return Snapshot(
            identity=identity,
            spec=spec,
            spec_error=spec_error,
            status=status,
            children=children,
            secrets=await self._read_secrets(identity, spec),
            operator=self._operator,
            now=self._clock.now(),
            # Asked only when it may matter: reading a namespace is a request.
            namespace_terminating=await self._namespaces.terminating(identity.namespace) if ending else None,
            failures=failures,
            contested=self._contests.contested(children),
            restart_slots=self._slots.left(key),
            restarting=self._slots.others(key),
        )

    def look_again(self, snapshot: Snapshot) -> float | None:
        """Return in how many seconds something that no watch tells may have changed: a referenced Secret, the end of a contest."""
        identity = snapshot.identity
        secret = self._secrets.next_check(identity.namespace, snapshot.secrets, identity.uid)
        contest = self._contests.next_end(snapshot.children)
        return min((wait for wait in (secret, contest) if wait is not None), default=None)

    async def _read_secrets(self, identity: Identity, spec: ChatbotInstanceSpec | None) -> Mapping[str, SecretFacts | None]:
        if spec is None:
            return {}
        own = self._own_secret_names(identity.name, spec)
        return await self._secrets.facts(identity.namespace, self._secret_names(identity.name, spec), identity.uid, own)


def _is_refused(status: ChatbotInstanceStatus, failures: tuple[EffectFailure, ...]) -> bool:
    """Return whether something was forbidden, as everything is in a terminating namespace, or that was the cause found before."""
    before = any(condition.type == "Ready" and condition.reason == "Deleting" for condition in status.conditions)
    return before or any(failure.reason == "Forbidden" for failure in failures)


def _claim_goes(identity: Identity, status: ChatbotInstanceStatus, children: Mapping[ObjectKey, ChildState]) -> bool:
    """Return whether the known volume of the database is going or gone: a loss, or merely the end of the whole namespace."""
    if not status.database.volume_uid:
        return False
    name = names.claim_name(identity.name, status.database.volume_generation)
    claim = children.get(ObjectKey("PersistentVolumeClaim", identity.namespace, name))
    return claim is None or claim.deleting


def identity_of(body: Mapping[str, Any], kind: str = "ChatbotInstance") -> Identity:
    """Return which object a stored body is about."""
    metadata = body["metadata"]
    return Identity(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata["resourceVersion"],
        annotations=metadata["annotations"],
        finalizers=tuple(metadata["finalizers"]),
        deleting=metadata["deletionTimestamp"] is not None,
        kind=kind,
    )


def parse_spec(kind: type[SpecT], spec: Mapping[str, Any]) -> tuple[SpecT | None, str]:
    """Return the spec, or None and what is wrong with it, naming fields but never their values."""
    try:
        return kind.model_validate(spec), ""
    except ValidationError as error:
        return None, _problems(error)


def parse_status(kind: type[StatusT], status: Mapping[str, Any]) -> StatusT:
    """Return the status; fields of a newer operator are kept.

    Raises:
        StatusUnreadable: A known field has a form that this version does not know.
    """
    try:
        return kind.model_validate(status)
    except ValidationError as error:
        raise StatusUnreadable(f"the status can't be read ({_problems(error)}); a newer operator may have written it") from None


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    named = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in found[:MAX_PROBLEMS]]
    more = f" and {len(found) - MAX_PROBLEMS} more" if len(found) > MAX_PROBLEMS else ""
    return "; ".join(named) + more
