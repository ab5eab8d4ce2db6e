"""A tiny pure model of a cluster: it applies effects, plays controllers, Jobs and disks, and shows what a pass would see.

It is no API server: conflicts, validation and field ownership are tested on a real one. It serves to run thousands of whole lives of an
instance with crashes at any effect, which no real cluster could do in a test.
"""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.constants import (
    ANNOTATION_INPUTS_HASH,
    ANNOTATION_SYSTEM_IDENTIFIER,
    ANNOTATION_TEMPLATE_HASH,
    FINALIZER,
    LABEL_COMPONENT,
    LABEL_INSTANCE,
    LABEL_INSTANCE_UID,
)
from chatbot_operator.desired.references import secret_names
from chatbot_operator.engine.decide import decide
from chatbot_operator.engine.effects import target_of
from chatbot_operator.model.decision import Decision
from chatbot_operator.model.effect import Apply, CreateSecret, Delete, Effect, Emit, PatchMetadata, SetFinalizer
from chatbot_operator.model.fingerprint import fingerprint, template_fingerprint
from chatbot_operator.model.objects import ChildState, Health, JobResult, ObjectKey, key_of
from chatbot_operator.model.snapshot import Contest, EffectFailure, Identity, OperatorFacts, SecretFacts, Snapshot

NAMESPACE = "chat"
NAME = "demo"
DIGEST = "sha256:" + "a" * 64


def minimal(**more: Any) -> ChatbotInstanceSpec:
    """Return the smallest valid spec, with more fields in camelCase."""
    return ChatbotInstanceSpec.model_validate({"release": {"version": "1.0.0", "image": f"chatbot@{DIGEST}"}, **more})


@dataclass
class Thing:
    """A live object."""

    body: dict[str, Any]
    uid: str
    deleting: bool = False
    replicas_managers: str = ""
    revision: int = 1
    health: Health | None = None
    finalizers: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        return self.body["metadata"].get("labels", {})

    @property
    def annotations(self) -> dict[str, str]:
        return self.body["metadata"].get("annotations", {})


@dataclass
class Cluster:
    """One instance and everything around it. `disks` maps a claim's uid to the database on it."""

    spec: ChatbotInstanceSpec
    name: str = NAME
    uid: str = "uid-1"
    generation: int = 1
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    deleting: bool = False
    gone: bool = False
    status: ChatbotInstanceStatus = field(default_factory=ChatbotInstanceStatus)
    things: dict[ObjectKey, Thing] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    disks: dict[str, str] = field(default_factory=dict)
    operator: OperatorFacts = field(default_factory=lambda: OperatorFacts("1.0", "postgres:1", "redis:1"))
    now: datetime = datetime(2027, 1, 1, tzinfo=UTC)
    failures: tuple[EffectFailure, ...] = ()
    refuse: dict[ObjectKey, tuple[str, bool]] = field(default_factory=dict)
    contested: dict[ObjectKey, Contest] = field(default_factory=dict)
    restart_slots: int = 1
    restarting: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()
    """Secrets that the API server refuses to give out."""
    namespace_terminating: bool | None = None
    job_failures: dict[str, str] = field(default_factory=dict)
    """Component -> reason with which its next Jobs end."""
    broken: dict[str, Health] = field(default_factory=dict)
    """Component -> health of its pods, which then don't get ready."""
    events: list[Emit] = field(default_factory=list)
    restarts: int = 0
    applied: int = 0
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def key(self, kind: str, name: str) -> ObjectKey:
        return ObjectKey(kind, NAMESPACE, name)

    def thing(self, kind: str, name: str) -> Thing:
        return self.things[self.key(kind, name)]

    def edit(self, **fields: Any) -> None:
        """Change the spec, as a person does: camelCase top-level fields."""
        body = {**self.spec.model_dump(mode="json", by_alias=True, exclude_none=True), **fields}
        self.spec = ChatbotInstanceSpec.model_validate(body)
        self.generation += 1
        self.failures = ()

    # -- what a pass sees

    def snapshot(self) -> Snapshot:
        facts = {name: self._facts(name) for name in secret_names(self.name, self.spec) if name not in self.unread}
        return Snapshot(
            identity=Identity(NAMESPACE, self.name, self.uid, self.generation, "1", dict(self.annotations), self.finalizers, self.deleting),
            spec=self.spec,
            spec_error="",
            status=self.status,
            children={key: self._child(key, thing) for key, thing in self.things.items()},
            secrets=facts,
            operator=self.operator,
            now=self.now,
            namespace_terminating=self.namespace_terminating,
            failures=self.failures,
            contested=self.contested,
            restart_slots=self.restart_slots,
            restarting=self.restarting,
        )

    def _facts(self, name: str) -> SecretFacts | None:
        found = self.secrets.get(name)
        return SecretFacts(name, {key: f"{self.uid}/{value}" for key, value in found.items()}) if found is not None else None

    def _child(self, key: ObjectKey, thing: Thing) -> ChildState:
        owners = thing.body["metadata"].get("ownerReferences", [])
        return ChildState(
            key=key,
            uid=thing.uid,
            resource_version=str(thing.revision),
            fingerprint=fingerprint(thing.body),
            instance=thing.labels.get(LABEL_INSTANCE, ""),
            instance_uid=thing.labels.get(LABEL_INSTANCE_UID, ""),
            owner_uid=owners[0]["uid"] if owners else "",
            deleting=thing.deleting,
            health=thing.health or Health(ready=True, reason="Exists"),
            labels=thing.labels,
            details=self._details(key, thing),
        )

    def _details(self, key: ObjectKey, thing: Thing) -> Mapping[str, str]:
        spec = thing.body.get("spec", {})
        found = {"deletedAt": "2027-01-01T00:00:00Z", "finalizers": ",".join(thing.finalizers)} if thing.deleting else {}
        match key.kind:
            case "Deployment" | "StatefulSet":
                found |= {
                    "template": template_fingerprint(thing.body),
                    "replicas": str(spec.get("replicas", 1)),
                    "replicasManagers": thing.replicas_managers,
                    "inputsHash": thing.annotations.get(ANNOTATION_INPUTS_HASH, ""),
                    "templateHash": thing.annotations.get(ANNOTATION_TEMPLATE_HASH, ""),
                }
            case "PersistentVolumeClaim":
                found |= {
                    "phase": "Bound" if thing.health and thing.health.ready else "Pending",
                    "requested": spec["resources"]["requests"]["storage"],
                    "storageClass": spec.get("storageClassName", ""),
                    "systemIdentifier": thing.annotations.get(ANNOTATION_SYSTEM_IDENTIFIER, ""),
                }
            case "Secret":
                found |= {"systemIdentifier": thing.annotations.get(ANNOTATION_SYSTEM_IDENTIFIER, "")}
        return {name: value for name, value in found.items() if value}

    # -- what a pass does

    def run_pass(self, *, crash_after: int | None = None) -> Decision:
        """Make one pass. `crash_after` 0 dies before the status write, n before the n-th effect."""
        decision = decide(self.snapshot())
        if crash_after == 0:
            return decision
        self.status = ChatbotInstanceStatus.model_validate(decision.status.to_api())
        failures = []
        for number, effect in enumerate(decision.effects, start=1):
            if crash_after is not None and number >= crash_after:
                self.failures = ()
                return decision
            failure = self._do(effect)
            failures += [failure] if failure else []
        self.failures = tuple(failures)
        return decision

    def _do(self, effect: Effect) -> EffectFailure | None:
        key = target_of(self.snapshot(), effect) if self.refuse and not isinstance(effect, Emit) else None
        if key in self.refuse:
            return EffectFailure(key, self.refuse[key][0], "refused", self.refuse[key][1])
        match effect:
            case Apply():
                return self._apply(effect)
            case CreateSecret():
                return self._create_secret(effect)
            case Delete():
                self._delete(effect.key, effect.uid)
            case PatchMetadata():
                thing = self.things.get(effect.key)
                if thing and thing.uid == effect.uid:
                    thing.body["metadata"].setdefault("labels", {}).update(effect.labels)
                    thing.body["metadata"].setdefault("annotations", {}).update(effect.annotations)
            case SetFinalizer():
                others = tuple(name for name in self.finalizers if name != FINALIZER)
                self.finalizers = (*others, FINALIZER) if effect.present else others
            case Emit():
                self.events.append(effect)
        return None

    def _apply(self, effect: Apply) -> EffectFailure | None:
        key = key_of(effect.manifest)
        self.applied += 1
        live = self.things.get(key)
        body = orjson.loads(orjson.dumps(effect.manifest))
        if live is None:
            assert not effect.uid, f"{key} is gone but was applied with a uid"
            self.things[key] = Thing(body, f"{key.kind}-{next(self._numbers)}", health=_first_health(key.kind))
            return None
        if not effect.uid:
            return None
        assert effect.uid == live.uid
        if key.kind == "PersistentVolumeClaim" and body["spec"].get("storageClassName") != live.body["spec"].get("storageClassName"):
            return EffectFailure(key, "ImmutableFieldChanged", "the class of a claim is immutable", stuck=True)
        if template_fingerprint(body) != template_fingerprint(live.body) and live.body["spec"].get("replicas", 1) != 0:
            self.restarts += 1
        if "replicas" not in body.get("spec", {}) and "replicas" in live.body.get("spec", {}):
            live.replicas_managers = live.replicas_managers or "hpa"
        changed = fingerprint(body) != fingerprint(live.body)
        live.body = body
        if changed and key.kind in ("Deployment", "StatefulSet"):
            live.health = Health(ready=None, reason="NotObserved", observed=False)
        return None

    def _create_secret(self, effect: CreateSecret) -> EffectFailure | None:
        name = effect.request.name
        if name in self.secrets:
            return None
        self.secrets[name] = {key: f"random-{next(self._numbers)}" for key in effect.request.values}
        labels = {LABEL_INSTANCE: self.name, LABEL_INSTANCE_UID: self.uid, LABEL_COMPONENT: effect.request.component}
        body = {"kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": {}}}
        self.things[self.key("Secret", name)] = Thing(body, f"Secret-{next(self._numbers)}")
        return None

    def _delete(self, key: ObjectKey, uid: str) -> None:
        thing = self.things.get(key)
        if thing is None or thing.uid != uid:
            return
        if thing.finalizers or (key.kind == "PersistentVolumeClaim" and self._in_use(key.name)):
            thing.deleting = True
            return
        self.remove(key)

    def remove(self, key: ObjectKey) -> None:
        """Take an object away, as a person does."""
        thing = self.things.pop(key)
        if key.kind == "Secret":
            self.secrets.pop(key.name, None)
        if key.kind == "PersistentVolumeClaim":
            self.disks.pop(thing.uid, None)

    def _in_use(self, claim: str) -> bool:
        return any(
            volume.get("persistentVolumeClaim", {}).get("claimName") == claim
            for key, thing in self.things.items()
            if key.kind in ("StatefulSet",) and thing.body["spec"].get("replicas") != 0
            for volume in thing.body["spec"]["template"]["spec"]["volumes"]
        )

    # -- what controllers do

    def play(self) -> None:
        """Let every controller act once."""
        for key, thing in list(self.things.items()):
            match key.kind:
                case "Deployment" | "StatefulSet":
                    thing.health = self._workload_health(key, thing)
                case "PersistentVolumeClaim":
                    if thing.deleting and not thing.finalizers and not self._in_use(key.name):
                        self.remove(key)
                    elif thing.health and not thing.health.ready and self._wanted(key.name):
                        thing.health = Health(ready=True, reason="Bound")
                case "Job":
                    if thing.health and not thing.health.terminal:
                        thing.health = self._job_health(thing)
        if self.deleting and not self.finalizers:
            self._collect()

    def _wanted(self, claim: str) -> bool:
        volumes = (
            volume
            for key, thing in self.things.items()
            if key.kind in ("StatefulSet", "Job")
            for volume in thing.body["spec"]["template"]["spec"]["volumes"]
        )
        return any(volume.get("persistentVolumeClaim", {}).get("claimName") == claim for volume in volumes)

    def _workload_health(self, key: ObjectKey, thing: Thing) -> Health:
        wanted = thing.body["spec"].get("replicas", 1)
        if wanted == 0:
            return Health(ready=True, reason="ScaledToZero")
        component = thing.labels[LABEL_COMPONENT]
        trouble = self.broken.get(component)
        if trouble is not None:
            return Health(ready=False, reason="PodsNotReady", message="0 of 1", replicas=wanted)
        if component == "postgres" and not self._disk_of(thing):
            return Health(ready=False, reason="PodsNotReady", message="the volume holds no cluster", replicas=wanted)
        return Health(ready=True, reason="Available", replicas=wanted, ready_replicas=wanted)

    def _disk_of(self, thing: Thing) -> str:
        for volume in thing.body["spec"]["template"]["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            found = self.things.get(self.key("PersistentVolumeClaim", claim)) if claim else None
            if found is not None:
                return self.disks.get(found.uid, "")
        return ""

    def _job_health(self, thing: Thing) -> Health:
        component = thing.labels[LABEL_COMPONENT]
        reason = self.job_failures.get(component)
        if reason == "lost":
            return Health(ready=False, reason="ResultUnreadable", message="the result is missing", terminal=True)
        if reason:
            return _ended("Failed", reason, {})
        if component == "migrate":
            return _ended("Succeeded", "Migrated", {"revision": "0003"})
        claim = thing.body["spec"]["template"]["spec"]["volumes"]
        name = next(volume["persistentVolumeClaim"]["claimName"] for volume in claim if "persistentVolumeClaim" in volume)
        uid = self.thing("PersistentVolumeClaim", name).uid
        env = {item["name"]: item["value"] for item in thing.body["spec"]["template"]["spec"]["containers"][0].get("env", [])}
        expected = env.get("EXPECTED_SYSTEM_IDENTIFIER")
        if expected and expected != self.disks.get(uid):
            return _ended("Failed", "WrongDatabase" if uid in self.disks else "DatabaseMissing", {})
        self.disks.setdefault(uid, f"70{next(self._numbers)}")
        return _ended("Succeeded", "Initialized", {"systemIdentifier": self.disks[uid]})

    def _collect(self) -> None:
        """Play the garbage collector: the instance is gone, and what it owned goes too."""
        self.gone = True
        for key, thing in list(self.things.items()):
            if any(owner["uid"] == self.uid for owner in thing.body["metadata"].get("ownerReferences", [])):
                del self.things[key]

    def recreate(self, uid: str, spec: ChatbotInstanceSpec | None = None) -> None:
        """Make a new instance of the same name, after the old one was deleted."""
        self.uid, self.gone, self.deleting, self.generation = uid, False, False, 1
        self.spec, self.status, self.failures, self.finalizers = spec or self.spec, ChatbotInstanceStatus(), (), ()

    def settle(self, *, passes: int = 60) -> int:
        """Run passes and controllers until nothing changes any more; return how many passes it took.

        Time goes on by itself where the decision asks to be looked at later, as far as `passes` allow.
        """
        for number in range(passes):
            before = self._state()
            decision = self.run_pass()
            self.play()
            if self.gone:
                return number
            if self._state() == before and not decision.outcome.requeue_after:
                return number
            self.now += timedelta(seconds=decision.outcome.requeue_after or 1)
        raise AssertionError(f"no rest after {passes} passes: {self.condition('Ready')}")

    def _state(self) -> Any:
        """Return a value that differs when anything that matters does."""
        things = [(key, thing.uid, thing.deleting, thing.health, orjson.dumps(thing.body)) for key, thing in self.things.items()]
        return self.status, things, copy.deepcopy(self.secrets), self.finalizers

    def condition(self, kind: str) -> tuple[str, str]:
        """Return status and reason of a condition, empty texts when it is absent."""
        return next(((c.status, c.reason) for c in self.status.conditions if c.type == kind), ("", ""))

    def message(self, kind: str) -> str:
        return next((c.message for c in self.status.conditions if c.type == kind), "")


def _first_health(kind: str) -> Health:
    match kind:
        case "Deployment" | "StatefulSet":
            return Health(ready=None, reason="NotObserved", observed=False)
        case "PersistentVolumeClaim":
            return Health(ready=False, reason="Pending")
        case "Job":
            return Health(ready=False, reason="Running")
        case _:
            return Health(ready=True, reason="Exists")


def _ended(outcome: str, reason: str, data: dict[str, str]) -> Health:
    result = JobResult(outcome, reason, f"it said {reason}", {"version": 1, "outcome": outcome, "reason": reason, **data})
    return Health(ready=outcome == "Succeeded", reason=reason, message=result.message, terminal=True, result=result)
