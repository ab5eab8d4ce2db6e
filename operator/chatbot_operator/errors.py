"""Everything that can go wrong, as types. A condition's reason is the `reason` of the error; no message holds a secret.

OperatorError
├── ConfigError                 the process was started wrongly
├── KubeError                   the API answered with an error, or not at all
│   ├── NotFound                404
│   ├── Conflict                409: stale resourceVersion, or the name is taken
│   ├── FieldConflict           server-side apply met another owner
│   ├── Invalid                 422: refused by validation
│   ├── ImmutableFieldChanged   422 on a field that can't change
│   ├── Forbidden               403: RBAC, quota or admission; `quota` says which
│   ├── Gone                    410: the watch must start over
│   ├── Throttled               429, with the seconds to wait
│   └── Unavailable             5xx, time-out or no connection
│       └── NotServed           404 that names no object: nothing is known of the object
├── LeadershipLost              a mutation was refused because the Lease may have passed on
└── ResultUnreadable            a Job's termination message is missing or not by contract
"""


class OperatorError(Exception):
    """Base of all errors of the operator; `reason` is CamelCase and goes into conditions and Events."""

    reason = "InternalError"


class ConfigError(OperatorError):
    """A setting of the process is missing or unusable."""

    reason = "InvalidConfiguration"


class KubeError(OperatorError):
    """An API request failed. `target` is `Kind namespace/name`."""

    reason = "ApiError"

    def __init__(self, message: str, *, status: int | None = None, target: str = "") -> None:
        super().__init__(f"{target}: {message}" if target else message)
        self.status = status
        self.target = target


class NotFound(KubeError):
    """The object does not exist."""

    reason = "NotFound"


class Conflict(KubeError):
    """The object changed since it was read, or its name is taken."""

    reason = "Conflict"


class FieldConflict(KubeError):
    """Another manager owns a field, or the object is not ours. `managers` names them."""

    reason = "FieldConflict"

    def __init__(self, message: str, *, managers: tuple[str, ...] = (), target: str = "") -> None:
        super().__init__(message, status=409, target=target)
        self.managers = managers


class Invalid(KubeError):
    """The API server refused the object."""

    reason = "InvalidSpec"


class ImmutableFieldChanged(Invalid):
    """The change touches a field that can't change after creation."""

    reason = "ImmutableFieldChanged"


class Forbidden(KubeError):
    """Not allowed: RBAC, quota or an admission policy."""

    reason = "Forbidden"

    def __init__(self, message: str, *, quota: bool = False, target: str = "") -> None:
        super().__init__(message, status=403, target=target)
        self.reason = "QuotaExceeded" if quota else "Forbidden"


class Gone(KubeError):
    """The resourceVersion is too old: list again."""

    reason = "Gone"


class Throttled(KubeError):
    """The API server asked to slow down. `retry_after` is in seconds."""

    reason = "Throttled"

    def __init__(self, message: str, *, retry_after: float = 1.0, target: str = "") -> None:
        super().__init__(message, status=429, target=target)
        self.retry_after = retry_after


class Unavailable(KubeError):
    """The API server did not answer, or answered 5xx."""

    reason = "ApiUnavailable"


class NotServed(Unavailable):
    """A 404 that names no object: the kind is not served, or a proxy answered. It is no proof that an object does not exist."""

    reason = "NotServed"


class LeadershipLost(OperatorError):
    """The local deadline of the Lease has passed, so nothing may be changed."""

    reason = "LeadershipLost"


class ResultUnreadable(OperatorError):
    """A Job ended without the JSON that docs/runtime-contract.md asks for."""

    reason = "ResultUnreadable"


class StatusUnreadable(OperatorError):
    """A status holds something this version can't understand; going on could destroy what a newer operator wrote."""

    reason = "StatusUnreadable"
