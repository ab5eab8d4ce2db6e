"""Wires one operator process together: every part is made here, once, and knows the others only through its constructor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatbot_operator.clock import Clock
from chatbot_operator.config import Config
from chatbot_operator.desired.references import own_secret_names, secret_names
from chatbot_operator.engine.backups import BACKUP_PASSES, BackupObserver, BackupStore
from chatbot_operator.engine.contest import Contests
from chatbot_operator.engine.decide import decide
from chatbot_operator.engine.effects import Executor
from chatbot_operator.engine.health import ProcessHealth
from chatbot_operator.engine.instances import INSTANCE_PASSES, InstanceStore
from chatbot_operator.engine.passes import Passes
from chatbot_operator.engine.queue import Priority, WorkQueue
from chatbot_operator.engine.queue_metrics import WorkqueueMetrics
from chatbot_operator.engine.relist import Relist
from chatbot_operator.engine.restarts import RestartSlots
from chatbot_operator.engine.snapshot import Observer
from chatbot_operator.engine.store import NamespacedName, ObjectStore
from chatbot_operator.engine.worker import CHANGE_SECONDS, Runner, Workers
from chatbot_operator.handlers.inbox import Inbox
from chatbot_operator.handlers.shell import Shell
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.credentials import Credentials
from chatbot_operator.kube.events import EventRecorder
from chatbot_operator.kube.kinds import BACKUP, CHILD_KINDS, INSTANCE, Kind
from chatbot_operator.kube.lease import LeaderElector
from chatbot_operator.kube.namespaces import NamespaceReader
from chatbot_operator.kube.reflector import Reflectors
from chatbot_operator.kube.secrets import SecretReader
from chatbot_operator.kube.transport import Transport
from chatbot_operator.machines.backup import decide_backup
from chatbot_operator.metrics import Metrics
from chatbot_operator.model.snapshot import OperatorFacts


@dataclass(frozen=True, slots=True)
class Loop:
    """What works for one of our kinds: its objects, what waits, and who works on it."""

    inbox: Inbox
    workers: Workers
    relist: Relist

    @property
    def store(self) -> ObjectStore[Any]:
        """The objects of the kind."""
        return self.inbox.store

    @property
    def queue(self) -> WorkQueue[NamespacedName]:
        """The names that wait for a pass."""
        return self.inbox.queue

    def wake_all(self, namespace: str = "") -> None:
        """Queue every object, or those of a namespace."""
        for key in self.store:
            if namespace not in ("", key.namespace):
                continue
            found = self.store.get(key)
            self.queue.forget(key)
            self.queue.add(key, Priority.LOW if found is not None and found.settled else Priority.HIGH)


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a process that `main` starts and stops."""

    client: KubeClient
    elector: LeaderElector
    reflectors: Reflectors
    loops: tuple[Loop, Loop]
    """Of instances and of backups."""
    shell: Shell

    def wake_all(self, namespace: str = "") -> None:
        """Queue every object of ours, or those of a namespace.

        After this process became the leader, whoever led before may have left work behind; after a watch began to fail or recovered,
        nothing else tells the objects.
        """
        for loop in self.loops:
            loop.wake_all(namespace)


class Queues:
    """The stores and queues of all kinds, and who wakes whom."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self.instances = InstanceStore(self._wake_backups)
        self.backups = BackupStore(self._wake_backups)
        self.instance_queue = _queue(clock, metrics, "instances")
        self.backup_queue = _queue(clock, metrics, "backups")

    def wake(self, namespace: str, name: str) -> None:
        """Wake whoever goes by the children of an instance."""
        key = NamespacedName(namespace, name)
        if self.instances.get(key) is not None:
            self.instance_queue.add_after(key, CHANGE_SECONDS)
        self._wake_backups(key)

    def _wake_backups(self, instance: NamespacedName) -> None:
        for name in self.backups.unfinished(instance):
            self.backup_queue.add_after(NamespacedName(instance.namespace, name), CHANGE_SECONDS)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loops of all kinds share."""

    config: Config
    clock: Clock
    metrics: Metrics
    client: KubeClient
    elector: LeaderElector
    reflectors: Reflectors
    contests: Contests
    recorder: EventRecorder
    secrets: SecretReader

    @property
    def facts(self) -> OperatorFacts:
        """What this process is configured with."""
        return OperatorFacts(self.config.version, self.config.postgres_image, self.config.redis_image)

    def executor(self, learn_own: Callable[[dict[str, Any]], object]) -> Executor:
        """Return what does the effects of one kind."""
        return Executor(self.client, self.recorder, self.contests, self.clock, self.metrics, children=self.reflectors, learn_own=learn_own)

    def loop(
        self,
        kind: Kind,
        store: ObjectStore[Any],
        queue: WorkQueue[NamespacedName],
        passes: Runner,
        after_pass: Callable[[], None] = lambda: None,
    ) -> Loop:
        """Return the loop of one kind."""

        def gone(key: NamespacedName) -> None:
            queue.drop(key)
            after_pass()  # what it held back can go on, and no pass of its own will tell

        relist = Relist(kind.kind, self.client, store, self.clock, self.config.namespaces, on_change=queue.add, on_gone=gone)
        workers = Workers(
            queue,
            passes,
            self.elector.is_leader,
            self.clock,
            self.metrics,
            noun=kind.kind.removeprefix("Chatbot").lower(),
            count=self.config.max_concurrent_passes,
            resync_seconds=self.config.resync_seconds,
            can_see=lambda key: self.reflectors.synced(key.namespace) or bool(self.reflectors.blind(key.namespace)),
            after_pass=after_pass,
        )
        return Loop(Inbox(kind.plural, store, queue, relist.watch_told, gone), workers, relist)


def _instances(parts: Parts, queues: Queues) -> Loop:
    store, queue = queues.instances, queues.instance_queue
    slots = RestartSlots(store, parts.config.version, parts.config.max_concurrent_restarts)
    observer = Observer(
        children=parts.reflectors,
        secrets=parts.secrets,
        namespaces=NamespaceReader(parts.client, parts.clock),
        secret_names=secret_names,
        own_secret_names=own_secret_names,
        contests=parts.contests,
        slots=slots,
        operator=parts.facts,
        clock=parts.clock,
    )

    def after_pass() -> None:
        key = slots.next_waiting()
        if key is not None:
            queue.add(key)

    executor = parts.executor(store.put)
    passes = Passes(INSTANCE_PASSES, store, observer, decide, executor, parts.client, parts.clock, parts.metrics, parts.reflectors.blind)
    return parts.loop(INSTANCE, store, queue, passes, after_pass)


def _backups(parts: Parts, queues: Queues) -> Loop:
    store = queues.backups
    observer = BackupObserver(store, queues.instances, parts.reflectors, parts.secrets, parts.facts, parts.clock)
    executor = parts.executor(store.put)
    passes = Passes(
        BACKUP_PASSES, store, observer, decide_backup, executor, parts.client, parts.clock, parts.metrics, parts.reflectors.blind
    )
    return parts.loop(BACKUP, store, queues.backup_queue, passes)


def _queue(clock: Clock, metrics: Metrics, name: str) -> WorkQueue[NamespacedName]:
    measured = WorkqueueMetrics(metrics, name)
    queue: WorkQueue[NamespacedName] = WorkQueue(clock, measured)
    measured.watch_processing(lambda: queue.processing, clock.monotonic)
    return queue


async def build(config: Config, clock: Clock, metrics: Metrics, health: ProcessHealth, take_signals: Callable[[], None]) -> Context:
    """Make all parts; nothing is started and no request is made.

    Raises:
        ConfigError: There are no usable credentials.
    """
    credentials = await Credentials.load()
    client, elector = _connect(config, clock, metrics, health, credentials)
    queues = Queues(clock, metrics)
    contests = Contests(clock)
    reflectors = Reflectors(client, clock, config.namespaces, queues.wake, on_gone=contests.forget)
    recorder, secrets = EventRecorder(client, clock, config.pod_name), SecretReader(client, clock, reflectors)
    parts = Parts(config, clock, metrics, client, elector, reflectors, contests, recorder, secrets)
    loops = (_instances(parts, queues), _backups(parts, queues))
    shell = Shell([loop.inbox for loop in loops], credentials, config.namespaces, take_signals)
    health.watches_heard_at = lambda: max(reflectors.last_activity(), elector.last_seen)
    health.watch_deaf_at = lambda: min((loop.relist.deaf_at for loop in loops if loop.relist.deaf_at is not None), default=None)
    context = Context(client, elector, reflectors, loops, shell)
    _measure(context, config, metrics, health)
    return context


def _measure(context: Context, config: Config, metrics: Metrics, health: ProcessHealth) -> None:
    """Let the gauges ask the parts when they are scraped."""
    metrics.observe_watch(health.watch_age)
    metrics.observe_kinds(context.reflectors.stale_seconds, (kind.kind for kind in CHILD_KINDS))
    instances, backups = context.loops
    metrics.instances.set_function(lambda: len(instances.store))
    metrics.backups.set_function(lambda: len(backups.store))
    metrics.is_leader.set_function(lambda: float(context.elector.is_leader()))
    metrics.build_info.labels(config.version).set(1)


def _connect(
    config: Config, clock: Clock, metrics: Metrics, health: ProcessHealth, credentials: Credentials
) -> tuple[KubeClient, LeaderElector]:
    """Return the client, every mutation of which the elector must allow, and the elector, which writes through its connections."""

    def observe(verb: str, code: int) -> None:
        metrics.count_request(verb, code)
        health.answered(verb, code)

    def guard() -> None:
        elector.guard()

    client = KubeClient(Transport(credentials, observe), guard)
    elector = LeaderElector(
        client,
        clock,
        namespace=config.lease_namespace,
        name=config.lease_name,
        identity=config.identity,
        seconds=config.lease_seconds,
    )
    return client, elector
