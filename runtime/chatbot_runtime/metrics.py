"""All metrics, in one place: names are those that alerts and SLOs are computed from. No phone, chat or user is ever a label.

Counters and histograms exist in every role and stay at zero where nothing happens. A gauge at zero would be a false statement, so gauges
are exposed only by the roles that fill them (`ROLE_GAUGES`), and those for which zero says something before anything is known only from
their first value on (`LateGauge`).
"""

import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from chatbot_runtime.settings import Role

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_NS: Final = "chatbot"
_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds. The edge at exactly 2 s is the runbook's p95 threshold (section 5)."""

_SLOW: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds. People read messages hours later."""


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, namespace=_NS, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Histogram:
    return Histogram(name, text, labels, namespace=_NS, registry=REGISTRY, buckets=buckets)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, namespace=_NS, registry=None)


class LateGauge:
    """A gauge without labels that is exposed from its first value on, and not while nothing is known."""

    def __init__(self, name: str, text: str) -> None:
        self.name = f"{_NS}_{name}"
        self._gauge = _gauge(name, text)
        self._exposed = False

    def set(self, value: float) -> None:
        """Expose a value."""
        self._gauge.set(value)
        if not self._exposed:
            REGISTRY.register(self._gauge)
            self._exposed = True

    def set_to_current_time(self) -> None:
        """Expose the present time in seconds since 1970."""
        self.set(time.time())

    def forget(self) -> None:
        """Expose nothing until the next value."""
        if self._exposed:
            REGISTRY.unregister(self._gauge)
            self._exposed = False


# -- HTTP (app)
HTTP_REQUESTS = _counter("http_requests_total", "Requests answered.", "method", "route", "code")
HTTP_SECONDS = _histogram("http_request_duration_seconds", "Time to answer.", "method", "route")
HTTP_IN_FLIGHT = _gauge("http_in_flight", "Requests being answered.")
WS_CLIENTS = _gauge("ws_clients", "Open dashboard sockets.")
WS_LAG = _histogram("ws_lag_seconds", "Age of what a dashboard's socket has taken: since its reading of the database began.")

# -- health
COMPONENT_UP = _gauge("component_up", "1 ok, 0.5 degraded, 0 down.", "component")
COMPONENT_SINCE = _gauge("component_since_timestamp_seconds", "When the component took its present status.", "component")
HEALTHZ_STATUS = _gauge("healthz_status", "1 ok, 0.5 degraded, 0 down: what /healthz says.")
BUILD_INFO = _gauge("build_info", "Always 1; the labels say what runs.", "version", "schema", "role")
SCHEMA_COMPATIBLE = LateGauge(
    "schema_compatible", "Whether this release can work with the schema that the database had when it last answered."
)

# -- database and Redis
DB_CONNECTION_ERRORS = _counter("db_connection_errors_total", "Connections that could not be made or broke.")
DB_POOL_IN_USE = _gauge("db_pool_in_use", "Connections taken from the pool.")
DB_POOL_WAIT = _histogram("db_pool_wait_seconds", "Time to get a connection; what failed is in db_connection_errors_total instead.")
DB_QUERY = _histogram("db_query_seconds", "Time of a transaction of these kinds that succeeded, without the wait for a connection.", "op")
REDIS_UP = LateGauge("redis_up", "Whether the last command to Redis succeeded.")
REDIS_LAST_SUCCESS = LateGauge("redis_last_success_timestamp_seconds", "When a command to Redis last succeeded.")
REDIS_ERRORS = _counter("redis_errors_total", "Commands to Redis that failed.")

# -- queue. The global gauges come from the scheduler only, so that replicas of the app do not multiply them.
OUTBOX_MESSAGES = _gauge("outbox_messages", "Messages in the outbox.", "channel", "state")
OUTBOX_PENDING = _gauge("outbox_pending", "Messages waiting to be sent.", "channel", "priority")
OUTBOX_OLDEST_AGE = _gauge("outbox_oldest_age_seconds", "Age of the oldest waiting message.", "channel")
LANE_DEPTH_MAX = LateGauge("lane_depth_max", "Messages waiting in the chat that has most of them.")
BACKPRESSURE_STATE = LateGauge("backpressure_state", "0 all is taken, 1 mass sendings are refused, 2 all but people's messages are.")
LANE_DRIFT = LateGauge("lane_drift", "Lanes whose counter differed from their rows at the last check.")
CLAIM_SECONDS = _histogram("claim_seconds", "Time to claim a batch of lanes.")
ENQUEUED = _counter("enqueue_total", "Messages put into the outbox.", "channel", "origin")
SEND_ATTEMPTS = _counter("send_attempts_total", "Attempts to send.", "channel", "result", "code")
SEND_SECONDS = _histogram("send_seconds", "Time of one send.", "channel")
UNKNOWN_OUTCOMES = _counter("unknown_outcomes_total", "Sends whose outcome was unknown, by what became of them.", "channel", "resolution")
DEAD_LETTERS = _counter("dead_letters_total", "Messages given up.", "reason")
DUPLICATES_SUPPRESSED = _counter("duplicate_suppressed_total", "Repeats that were recognised.", "direction")
RATE_LIMITED = _counter("rate_limited_total", "Work that a limit delayed or refused.", "limit")
PACING_HEADROOM = _gauge("pacing_headroom_ratio", "Share of a limit's burst that is free: 0 while sends wait for their pace.", "limit")
LIMITER_MODE = _gauge("limiter_mode", "1 for the store that paced the last send, 0 for the other; postgres paces at half the rate.", "mode")

# -- messages and webhooks
LAST_INBOUND = LateGauge("last_inbound_timestamp_seconds", "When this process last stored a message of a contact.")
MESSAGES = _counter("messages_total", "Messages by status reached.", "channel", "direction", "status")
DELIVERY_SECONDS = _histogram(
    "delivery_seconds",
    "Time to a stage: sent since queued, delivered since sent, read since delivered. The provider's times are whole seconds.",
    "stage",
    buckets=_SLOW,
)
INBOUND_TO_REPLY = _histogram("inbound_to_reply_seconds", "From an inbound message to its queued reply.")
WEBHOOK_EVENTS = _counter("webhook_events_total", "Webhook events.", "kind", "result")
WEBHOOK_SIGNATURE_FAILURES = _counter("webhook_signature_failures_total", "Webhooks refused for their signature.")
WEBHOOK_ACK_SECONDS = _histogram("webhook_ack_seconds", "From a webhook's first byte to its answer.")

# -- bot
TURNS = _counter("turns_total", "Turns of the bot.", "outcome")
TURN_SECONDS = _histogram("turn_seconds", "Time of one turn.")
FALLBACKS = _counter("fallback_total", "Turns that nothing matched.")
HANDOFFS = _counter("handoff_total", "Conversations handed to a person.", "reason")
HANDOFF_WAIT = _histogram("handoff_wait_seconds", "From handing a conversation over to a person's first message in it.", buckets=_SLOW)

# -- WhatsApp Web
SESSION_STATE = _gauge("session_state", "1 for the present state of the session, 0 for the others.", "state")
SESSION_STATE_CHANGES = _counter("session_state_changes_total", "Changes of the session's state.", "from", "to")
LEASE_HELD = _gauge("lease_held", "Whether this worker holds its number's lease.")
LEASE_EPOCH = LateGauge("lease_epoch", "Epoch of the lease held last.")
PROFILE_BYTES = LateGauge("profile_bytes", "Size of the volume of the browser profile.")
PROFILE_FREE = LateGauge("profile_free_bytes", "Free bytes on the volume of the browser profile.")

# -- operation and security
LOGINS = _counter("logins_total", "Logins.", "result")
AUDIT_EVENTS = _counter("audit_events_total", "Audit events written.")
AUDIT_CHAIN_OK = LateGauge("audit_chain_ok", "Whether the last verification of the audit chain succeeded.")
AUDIT_CHAIN_HEAD = _gauge(
    "audit_chain_head_info", "Number of the newest seal, with its hash as label: an anchor outside the database.", "hash"
)
TABLE_ROWS = _gauge("table_rows_estimate", "Rows as the database estimates them; absent until a table was first analysed.", "table")
TABLE_BYTES = _gauge("table_bytes", "Size of a table with its indexes and its large values.", "table")
JOB_LAST_SUCCESS = _gauge("job_last_success_timestamp_seconds", "When this process last did a periodic job.", "job")
RETENTION_DELETED = _counter("retention_deleted_total", "Rows deleted because they had served their purpose.", "class")

_COMMON = (COMPONENT_UP, COMPONENT_SINCE, BUILD_INFO, DB_POOL_IN_USE)
ROLE_GAUGES: Final[Mapping[Role, tuple[Gauge, ...]]] = {
    Role.APP: (*_COMMON, HTTP_IN_FLIGHT, WS_CLIENTS, HEALTHZ_STATUS),
    Role.SCHEDULER: (
        *_COMMON,
        OUTBOX_MESSAGES,
        OUTBOX_PENDING,
        OUTBOX_OLDEST_AGE,
        PACING_HEADROOM,
        LIMITER_MODE,
        AUDIT_CHAIN_HEAD,
        TABLE_ROWS,
        TABLE_BYTES,
        JOB_LAST_SUCCESS,
    ),
    Role.WORKER_WEB: (*_COMMON, SESSION_STATE, LEASE_HELD),
    Role.MIGRATE: (),
}
"""A `LateGauge` is not among them: the role that fills it exposes it by its first value."""


def expose(role: Role) -> None:
    """Expose the gauges that this role fills. Call it once at start."""
    for gauge in ROLE_GAUGES[role]:
        REGISTRY.register(gauge)
