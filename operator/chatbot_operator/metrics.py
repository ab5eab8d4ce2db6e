"""Metrics of the operator: workqueue's standard names, so that known dashboards fit, plus `chatbot_operator_*`."""

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

QUEUE_BUCKETS = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
"""Seconds: from an idle queue to five minutes behind."""
PASS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one process, on a registry of its own so that tests don't share state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._define_queue()
        self._define_operator()

    def _define_queue(self) -> None:
        label, registry = ("name",), self.registry
        self.depth = Gauge("workqueue_depth", "Keys waiting.", label, registry=registry)
        self.adds = Counter("workqueue_adds_total", "Keys that became due.", label, registry=registry)
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds", "Seconds a key waited.", label, buckets=QUEUE_BUCKETS, registry=registry
        )
        self.work_seconds = Histogram(
            "workqueue_work_duration_seconds", "Seconds a key was processed.", label, buckets=QUEUE_BUCKETS, registry=registry
        )
        self.retries = Counter("workqueue_retries_total", "Keys queued again after a failure.", label, registry=registry)
        self.unfinished = Gauge(
            "workqueue_unfinished_work_seconds", "Seconds of work in progress, summed over keys.", label, registry=registry
        )
        self.longest = Gauge("workqueue_longest_running_processor_seconds", "Age of the oldest work in progress.", label, registry=registry)

    def _define_operator(self) -> None:
        registry = self.registry
        self.passes = Counter("chatbot_operator_passes_total", "Passes by how they ended.", ("result",), registry=registry)
        self.pass_seconds = Histogram("chatbot_operator_pass_seconds", "Seconds of a pass.", buckets=PASS_BUCKETS, registry=registry)
        self.api_requests = Counter(
            "chatbot_operator_api_requests_total",
            "Requests to the API server by verb and status code.",
            ("verb", "code"),
            registry=registry,
        )
        self.is_leader = Gauge("chatbot_operator_lease_is_leader", "1 while this process may change things.", registry=registry)
        self.forced_applies = Counter(
            "chatbot_operator_forced_applies_total", "Applies that took a field back from another manager.", ("kind",), registry=registry
        )
        self.status_writes = Counter("chatbot_operator_status_writes_total", "Status writes by result.", ("result",), registry=registry)
        self.effects = Counter("chatbot_operator_effects_total", "Effects by type and result.", ("effect", "result"), registry=registry)
        self.internal_errors = Counter("chatbot_operator_internal_errors_total", "Unexpected exceptions of passes.", registry=registry)
        self.instances = Gauge("chatbot_operator_instances", "Instances known to this process.", registry=registry)
        self.backups = Gauge("chatbot_operator_backups", "Backups known to this process.", registry=registry)
        self.watch_activity = Gauge(
            "chatbot_operator_watch_last_activity_seconds", "Seconds since a watch last delivered anything.", registry=registry
        )
        self.watch_stale = Gauge(
            "chatbot_operator_watch_stale_seconds",
            "Greatest age of what is known of a kind: about a minute at most while its watches work.",
            ("kind",),
            registry=registry,
        )
        self.terminating_releases = Counter(
            "chatbot_operator_terminating_namespace_releases_total",
            "Finalizers released without clean-up because the namespace was terminating.",
            registry=registry,
        )
        self.build_info = Gauge("chatbot_operator_build_info", "Always 1; the labels say what runs.", ("version",), registry=registry)

    def observe_watch(self, age: Callable[[], float]) -> None:
        """Let a scrape ask how many seconds ago a watch last delivered anything."""
        self.watch_activity.set_function(age)

    def observe_kinds(self, age: Callable[[str], float], kinds: Iterable[str]) -> None:
        """Let a scrape ask how old what is known of each kind is, in seconds."""
        for kind in kinds:
            self.watch_stale.labels(kind).set_function(partial(age, kind))

    def count_request(self, verb: str, code: int) -> None:
        """Count one API request; `code` 0 means that no answer came."""
        self.api_requests.labels(verb, str(code)).inc()
