"""All metrics, in one place: names are those that alerts and SLOs are computed from. No phone, chat or user is ever a label.

Counters and histograms exist in every role and stay at zero where nothing happens. A gauge at zero would be a false statement, so gauges
are exposed only by the roles that fill them (`ROLE_GAUGES`).
"""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from chatbot_runtime.settings import Role

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_NS: Final = "chatbot"
_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds. The edge at exactly 2 s is the runbook's p95 threshold (section 5)."""


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, namespace=_NS, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, namespace=_NS, registry=REGISTRY, buckets=_FAST)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, namespace=_NS, registry=None)


# -- HTTP (app)
HTTP_REQUESTS = _counter("http_requests_total", "Requests answered.", "method", "route", "code")
HTTP_SECONDS = _histogram("http_request_duration_seconds", "Time to answer.", "method", "route")
HTTP_IN_FLIGHT = _gauge("http_in_flight", "Requests being answered.")
WS_CLIENTS = _gauge("ws_clients", "Open dashboard sockets.")

# -- health
COMPONENT_UP = _gauge("component_up", "1 ok, 0.5 degraded, 0 down.", "component")
COMPONENT_SINCE = _gauge("component_since_timestamp_seconds", "When the component took its present status.", "component")
HEALTHZ_STATUS = _gauge("healthz_status", "1 ok, 0.5 degraded, 0 down: what /healthz says.")
BUILD_INFO = _gauge("build_info", "Always 1; the labels say what runs.", "version", "schema", "role")
SCHEMA_COMPATIBLE = _gauge("schema_compatible", "Whether this release can work with the database's schema.")

# -- database and Redis
DB_CONNECTION_ERRORS = _counter("db_connection_errors_total", "Connections that could not be made or broke.")
DB_POOL_IN_USE = _gauge("db_pool_in_use", "Connections taken from the pool.")
REDIS_UP = _gauge("redis_up", "Whether the last command to Redis succeeded.")
REDIS_LAST_SUCCESS = _gauge("redis_last_success_timestamp_seconds", "When a command to Redis last succeeded.")
REDIS_ERRORS = _counter("redis_errors_total", "Commands to Redis that failed.")

# -- queue. The global gauges come from the scheduler only, so that replicas of the app do not multiply them.
OUTBOX_MESSAGES = _gauge("outbox_messages", "Messages in the outbox.", "channel", "state")
OUTBOX_PENDING = _gauge("outbox_pending", "Messages waiting to be sent.", "channel", "priority")
OUTBOX_OLDEST_AGE = _gauge("outbox_oldest_age_seconds", "Age of the oldest waiting message.", "channel")
LANE_DRIFT = _gauge("lane_drift", "Lanes whose counter differed from their rows at the last check.")
CLAIM_SECONDS = _histogram("claim_seconds", "Time to claim a batch of lanes.")
ENQUEUED = _counter("enqueue_total", "Messages put into the outbox.", "channel", "origin")
SEND_ATTEMPTS = _counter("send_attempts_total", "Attempts to send.", "channel", "result", "code")
SEND_SECONDS = _histogram("send_seconds", "Time of one send.", "channel")
UNKNOWN_OUTCOMES = _counter("unknown_outcomes_total", "Sends whose outcome was unknown, by what became of them.", "channel", "resolution")
DEAD_LETTERS = _counter("dead_letters_total", "Messages given up.", "reason")
DUPLICATES_SUPPRESSED = _counter("duplicate_suppressed_total", "Repeats that were recognised.", "direction")
RATE_LIMITED = _counter("rate_limited_total", "Work that a limit delayed or refused.", "limit")

# -- messages and webhooks
MESSAGES = _counter("messages_total", "Messages by status reached.", "channel", "direction", "status")
INBOUND_TO_REPLY = _histogram("inbound_to_reply_seconds", "From an inbound message to its queued reply.")
WEBHOOK_EVENTS = _counter("webhook_events_total", "Webhook events.", "kind", "result")
WEBHOOK_SIGNATURE_FAILURES = _counter("webhook_signature_failures_total", "Webhooks refused for their signature.")
WEBHOOK_ACK_SECONDS = _histogram("webhook_ack_seconds", "From a webhook's first byte to its answer.")

# -- bot
TURNS = _counter("turns_total", "Turns of the bot.", "outcome")
TURN_SECONDS = _histogram("turn_seconds", "Time of one turn.")
FALLBACKS = _counter("fallback_total", "Turns that nothing matched.")
HANDOFFS = _counter("handoff_total", "Conversations handed to a person.", "reason")

# -- WhatsApp Web
SESSION_STATE = _gauge("session_state", "1 for the present state of the session, 0 for the others.", "state")
SESSION_STATE_CHANGES = _counter("session_state_changes_total", "Changes of the session's state.", "from", "to")
LEASE_HELD = _gauge("lease_held", "Whether this worker holds its number's lease.")
LEASE_EPOCH = _gauge("lease_epoch", "Epoch of the lease held last.")

# -- operation and security
LOGINS = _counter("logins_total", "Logins.", "result")
AUDIT_EVENTS = _counter("audit_events_total", "Audit events written.")
AUDIT_CHAIN_OK = _gauge("audit_chain_ok", "Whether the last verification of the audit chain succeeded.")
AUDIT_CHAIN_HEAD = _gauge(
    "audit_chain_head_info", "Number of the newest seal, with its hash as label: an anchor outside the database.", "hash"
)
JOB_LAST_SUCCESS = _gauge("job_last_success_timestamp_seconds", "When a periodic job last succeeded.", "job")

_COMMON = (COMPONENT_UP, COMPONENT_SINCE, BUILD_INFO, SCHEMA_COMPATIBLE, DB_POOL_IN_USE, REDIS_UP, REDIS_LAST_SUCCESS)
ROLE_GAUGES: Final[Mapping[Role, tuple[Gauge, ...]]] = {
    Role.APP: (*_COMMON, HTTP_IN_FLIGHT, WS_CLIENTS, HEALTHZ_STATUS),
    Role.SCHEDULER: (
        *_COMMON,
        OUTBOX_MESSAGES,
        OUTBOX_PENDING,
        OUTBOX_OLDEST_AGE,
        LANE_DRIFT,
        AUDIT_CHAIN_OK,
        AUDIT_CHAIN_HEAD,
        JOB_LAST_SUCCESS,
    ),
    Role.WORKER_WEB: (*_COMMON, SESSION_STATE, LEASE_HELD, LEASE_EPOCH),
    Role.MIGRATE: (),
}


def expose(role: Role) -> None:
    """Expose the gauges that this role fills. Call it once at start."""
    for gauge in ROLE_GAUGES[role]:
        REGISTRY.register(gauge)
