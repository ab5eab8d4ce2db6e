"""Wires one operator process together: every part is made here, once, and knows the others only through its constructor."""

from collections.abc import Callable
from dataclasses import dataclass

from chatbot_operator.clock import Clock
from chatbot_operator.config import Config
from chatbot_operator.desired.references import own_secret_names, secret_names
from chatbot_operator.engine.contest import Contests
from chatbot_operator.engine.decide import decide
from chatbot_operator.engine.effects import Executor
from chatbot_operator.engine.health import ProcessHealth
from chatbot_operator.engine.passes import Passes
from chatbot_operator.engine.queue import Priority, WorkQueue
from chatbot_operator.engine.queue_metrics import WorkqueueMetrics
from chatbot_operator.engine.relist import Relist
from chatbot_operator.engine.restarts import RestartSlots
from chatbot_operator.engine.snapshot import Observer
from chatbot_operator.engine.store import InstanceKey, InstanceStore
from chatbot_operator.engine.worker import CHANGE_SECONDS, Workers
from chatbot_operator.handlers.instances import Inbox
from chatbot_operator.handlers.shell import Shell
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.credentials import Credentials
from chatbot_operator.kube.events import EventRecorder
from chatbot_operator.kube.kinds import CHILD_KINDS
from chatbot_operator.kube.lease import LeaderElector
from chatbot_operator.kube.namespaces import NamespaceReader
from chatbot_operator.kube.reflector import Reflectors
from chatbot_operator.kube.secrets import SecretReader
from chatbot_operator.kube.transport import Transport
from chatbot_operator.metrics import Metrics
from chatbot_operator.model.snapshot import OperatorFacts


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a process that `main` starts and stops."""

    client: KubeClient
    elector: LeaderElector
    reflectors: Reflectors
    store: InstanceStore
    queue: WorkQueue[InstanceKey]
    workers: Workers
    relist: Relist
    shell: Shell

    def wake_all(self, namespace: str = "") -> None:
        """Queue every instance, or those of a namespace.

        After this process became the leader, whoever led before may have left work behind; after a watch began to fail or recovered,
        nothing else tells the instances.
        """
        for key in self.store:
            if namespace not in ("", key.namespace):
                continue
            found = self.store.get(key)
            self.queue.forget(key)
            self.queue.add(key, Priority.LOW if found is not None and found.settled else Priority.HIGH)


async def build(config: Config, clock: Clock, metrics: Metrics, health: ProcessHealth, take_signals: Callable[[], None]) -> Context:
    """Make all parts; nothing is started and no request is made.

    Raises:
        ConfigError: There are no usable credentials.
    """
    credentials = await Credentials.load()
    client, elector = _connect(config, clock, metrics, health, credentials)
    store = InstanceStore()
    queue_metrics = WorkqueueMetrics(metrics, "instances")
    queue: WorkQueue[InstanceKey] = WorkQueue(clock, queue_metrics)
    queue_metrics.watch_processing(lambda: queue.processing, clock.monotonic)

    def wake(namespace: str, name: str) -> None:
        key = InstanceKey(namespace, name)
        if store.get(key) is not None:
            queue.add_after(key, CHANGE_SECONDS)

    contests = Contests(clock)
    reflectors = Reflectors(client, clock, config.namespaces, wake, on_gone=contests.forget)
    relist = Relist(client, store, clock, config.namespaces, on_change=queue.add, on_gone=queue.drop)
    slots = RestartSlots(store, config.version, config.max_concurrent_restarts)
    observer = _observer(config, clock, client, reflectors, contests, slots)
    recorder = EventRecorder(client, clock, config.pod_name)
    executor = Executor(client, recorder, contests, clock, metrics, children=reflectors, learn_instance=store.put)

    def after_pass() -> None:
        key = slots.next_waiting()
        if key is not None:
            queue.add(key)

    workers = Workers(
        queue,
        Passes(store, observer, decide, executor, client, clock, metrics, reflectors.blind),
        elector.is_leader,
        clock,
        metrics,
        count=config.max_concurrent_passes,
        resync_seconds=config.resync_seconds,
        can_see=lambda key: reflectors.synced(key.namespace) or bool(reflectors.blind(key.namespace)),
        after_pass=after_pass,
    )
    shell = Shell(Inbox(store, queue, relist.watch_told), credentials, config.namespaces, take_signals)
    health.watches_heard_at = lambda: max(reflectors.last_activity(), elector.last_seen)
    health.watch_deaf_at = lambda: relist.deaf_at
    context = Context(client, elector, reflectors, store, queue, workers, relist, shell)
    _measure(context, config, metrics, health)
    return context


def _measure(context: Context, config: Config, metrics: Metrics, health: ProcessHealth) -> None:
    """Let the gauges ask the parts when they are scraped."""
    metrics.observe_watch(health.watch_age)
    metrics.observe_kinds(context.reflectors.stale_seconds, (kind.kind for kind in CHILD_KINDS))
    metrics.instances.set_function(lambda: len(context.store))
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


def _observer(
    config: Config, clock: Clock, client: KubeClient, reflectors: Reflectors, contests: Contests, slots: RestartSlots
) -> Observer:
    return Observer(
        children=reflectors,
        secrets=SecretReader(client, clock, reflectors),
        namespaces=NamespaceReader(client, clock),
        secret_names=secret_names,
        own_secret_names=own_secret_names,
        contests=contests,
        slots=slots,
        operator=OperatorFacts(config.version, config.postgres_image, config.redis_image),
        clock=clock,
    )
