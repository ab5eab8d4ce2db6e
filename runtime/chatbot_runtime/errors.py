"""What can go wrong in the runtime, as types. No message holds a secret.

RuntimeFault
├── ConfigError        the process was started wrongly; the sentence names the variable
├── DatabaseDown       PostgreSQL can't be used now: HTTP 503, callers retry
└── Refused            a request can't be served; carries its HTTP status and a problem type
"""


class RuntimeFault(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(RuntimeFault):
    """A setting is missing or unusable. `problems` has one sentence for each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class DatabaseDown(RuntimeFault):
    """PostgreSQL does not answer, or does not serve us, at this moment.

    Attributes:
        reason: CamelCase word for it, which pages translate.
    """

    def __init__(self, message: str, *, reason: str = "DatabaseUnreachable") -> None:
        super().__init__(message)
        self.reason = reason


class Refused(RuntimeFault):
    """A request is refused.

    Attributes:
        status: HTTP status, 4xx or 503.
        kind: last part of the problem type, kebab-case; clients may branch on it.
        detail: one sentence for a person.
        retry_after: seconds for a `Retry-After` header, or None.
    """

    def __init__(self, status: int, kind: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
