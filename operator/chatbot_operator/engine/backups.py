"""How the engine deals with ChatbotBackups: what it asks of them without parsing them, and what their passes know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from chatbot_operator.api.v1alpha1.backup import ChatbotBackupSpec, ChatbotBackupStatus
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.clock import Clock
from chatbot_operator.constants import ANNOTATION_RECONCILE_AT, LABEL_BACKUP, LABEL_COMPONENT
from chatbot_operator.desired import names
from chatbot_operator.desired.references import own_secret_names, uses_of
from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.passes import KindOfPass
from chatbot_operator.engine.snapshot import Children, Secrets, identity_of, parse_spec, parse_status
from chatbot_operator.engine.store import NamespacedName, ObjectStore, Summary, Tracked
from chatbot_operator.machines.backoff import parse_due
from chatbot_operator.machines.backup import Turn, read_turn
from chatbot_operator.model.backup import BackupSnapshot, InstanceView
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.snapshot import EffectFailure, OperatorFacts, SecretFacts

KIND: Final = "ChatbotBackup"
BACKUP_PASSES: Final = KindOfPass(KIND, headline="Succeeded", what="backup")


@dataclass(frozen=True, slots=True)
class BackupMarks:
    """What decides whose turn it is."""

    instance: str
    """Name of the instance."""
    created: str
    turn: Turn


class BackupStore(ObjectStore[BackupMarks]):
    """The backups, and which of each instance want to go on."""

    def __init__(self, on_turn: Callable[[NamespacedName], None] = lambda _: None) -> None:
        """Prepare an empty store. `on_turn` is called with an instance when another of its backups may have its turn."""
        super().__init__(summarize)
        self._on_turn = on_turn
        self._open: dict[NamespacedName, dict[str, BackupMarks]] = {}
        """Instance -> its backups that want to go on, now or later."""

    def unfinished(self, instance: NamespacedName) -> list[str]:
        """Return the names of an instance's backups that want to go on, in the order in which they were asked for."""
        found = self._open.get(instance, {})
        return sorted(found, key=lambda name: (found[name].created, name))

    def waiting(self, instance: NamespacedName, now: datetime) -> list[str]:
        """Return those of the unfinished that want to go on now: one that waits for its next attempt lets others pass."""
        found = self._open.get(instance, {})
        due = {name: parse_due(found[name].turn.at, now) for name in found}
        return [name for name in self.unfinished(instance) if (at := due[name]) is None or at <= now]

    def changed(self, key: NamespacedName, old: Tracked[BackupMarks] | None, new: Tracked[BackupMarks] | None) -> None:
        """Keep the index."""
        if old is not None:
            of = NamespacedName(key.namespace, old.marks.instance)
            self._open.get(of, {}).pop(key.name, None)
            if not self._open.get(of, True):
                del self._open[of]
            if old.marks.turn.wants and (new is None or new.marks.turn != old.marks.turn):
                self._on_turn(of)
        if new is not None and new.marks.turn.wants:
            self._open.setdefault(NamespacedName(key.namespace, new.marks.instance), {})[key.name] = new.marks


def summarize(metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> Summary[BackupMarks]:
    """Return what is known of one version."""
    turn = read_turn(status)
    asked = metadata["annotations"].get(ANNOTATION_RECONCILE_AT)
    handled = asked in (None, status.get("lastHandledReconcileAt"))
    if metadata["deletionTimestamp"] is not None:
        turn = Turn(False)
    elif not handled and turn != Turn(True):
        turn = Turn(_has_failed(status))
    instance = (spec.get("instanceRef") or {}).get("name", "")
    return Summary(not turn.wants and handled, BackupMarks(instance, metadata["creationTimestamp"], turn))


def _has_failed(status: Mapping[str, Any]) -> bool:
    return any(job.get("outcome") == "Failed" for job in status.get("jobs") or ())


class BackupObserver:
    """Makes snapshots of backups."""

    def __init__(
        self,
        store: BackupStore,
        instances: InstanceStore,
        children: Children,
        secrets: Secrets,
        operator: OperatorFacts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._instances = instances
        self._children = children
        self._secrets = secrets
        self._operator = operator
        self._clock = clock

    async def observe(self, key: NamespacedName, held: Tracked[Any], failures: tuple[EffectFailure, ...]) -> BackupSnapshot:
        """Return the snapshot of a backup.

        Args:
            key: Which backup.
            held: Its newest version.
            failures: What went wrong in its last effects.

        Raises:
            StatusUnreadable: Its status, or that of its instance, can't be parsed.
            KubeError: A referenced Secret could not be read.
        """
        body = held.read()
        spec, spec_error = parse_spec(ChatbotBackupSpec, body["spec"])
        name = spec.instance_ref.name if spec else ""
        found = self._instances.get(NamespacedName(key.namespace, name))
        instance = _view(found.read()) if found is not None else None
        children = self._children.children(key.namespace, name)
        now = self._clock.now()
        waiting = self._store.waiting(NamespacedName(key.namespace, name), now)
        before = waiting[: waiting.index(key.name)] if key.name in waiting else waiting
        return BackupSnapshot(
            identity=identity_of(body, KIND),
            spec=spec,
            spec_error=spec_error,
            status=parse_status(ChatbotBackupStatus, body["status"]),
            instance=instance,
            children=_own(key, children),
            secrets=await self._read_secrets(key.namespace, name, instance),
            ahead=tuple(dict.fromkeys((*_at_work(key, children), *before))),
            migrating=_is_migrating(children),
            operator=self._operator,
            now=now,
            failures=failures,
        )

    def look_again(self, snapshot: BackupSnapshot) -> float | None:
        """Return in how many seconds a Secret that no watch tells is read again; a backup that is proven looks no more."""
        if snapshot.instance is None or snapshot.status.archive is not None:
            return None
        return self._secrets.next_check(snapshot.identity.namespace, snapshot.secrets, snapshot.instance.uid)

    async def _read_secrets(self, namespace: str, name: str, instance: InstanceView | None) -> Mapping[str, SecretFacts | None]:
        if instance is None or instance.spec is None or instance.spec.backup is None:
            return {}
        used = {use.secret for component in (names.BACKUP, names.BACKUP_VERIFY) for use in uses_of(component, name, instance.spec)}
        return await self._secrets.facts(namespace, sorted(used), instance.uid, own_secret_names(name, instance.spec))


def _own(key: NamespacedName, children: Mapping[ObjectKey, ChildState]) -> dict[ObjectKey, ChildState]:
    """Return the Jobs of a backup and their pods."""
    jobs = {child.uid: child for child in children.values() if child.key.kind == "Job" and child.labels.get(LABEL_BACKUP) == key.name}
    pods = [child for child in children.values() if child.key.kind == "Pod" and child.owner_uid in jobs]
    return {child.key: child for child in (*jobs.values(), *pods)}


def _at_work(key: NamespacedName, children: Mapping[ObjectKey, ChildState]) -> list[str]:
    """Return the other backups whose Jobs have not ended, or whose pods are still there: both mount the same volume."""
    ours = (names.BACKUP, names.BACKUP_VERIFY)
    jobs = {child.uid: child for child in children.values() if child.key.kind == "Job" and child.labels.get(LABEL_COMPONENT) in ours}
    live = {uid for uid, job in jobs.items() if not job.health.terminal}
    for child in children.values():
        if child.key.kind == "Pod" and child.labels.get(LABEL_COMPONENT) in ours and not child.health.terminal:
            live.add(child.owner_uid)
    found = {jobs[uid].labels.get(LABEL_BACKUP, "") if uid in jobs else "one that was deleted" for uid in live}
    return sorted(found - {key.name})


def _is_migrating(children: Mapping[ObjectKey, ChildState]) -> bool:
    return any(
        key.kind == "Job" and child.labels.get(LABEL_COMPONENT) == names.MIGRATE and not child.health.terminal
        for key, child in children.items()
    )


def _view(body: Mapping[str, Any]) -> InstanceView:
    metadata = body["metadata"]
    spec, _ = parse_spec(ChatbotInstanceSpec, body["spec"])
    status = parse_status(ChatbotInstanceStatus, body["status"])
    return InstanceView(metadata["uid"], metadata["deletionTimestamp"] is not None, spec, status)
