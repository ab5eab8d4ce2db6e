"""Whether the Secrets that a component reads exist with all keys. A missing one is named, and its return is noticed by itself."""

from collections.abc import Collection, Iterable, Mapping

from chatbot_operator.constants import LABEL_INSTANCE
from chatbot_operator.model.plan import Use
from chatbot_operator.model.snapshot import SecretFacts
from chatbot_operator.model.verdict import OK, Verdict, stop, wait


def judge_dependencies(
    uses: Iterable[Use], generated: Collection[str], secrets: Mapping[str, SecretFacts | None], lost: Mapping[str, Verdict]
) -> Verdict:
    """Return whether a component may be made from its Secrets.

    Args:
        uses: What it reads; an empty key asks for the Secret alone.
        generated: Names of Secrets that the operator makes itself.
        secrets: Facts by name; None does not exist, an absent name is unknown.
        lost: Generated Secrets that are gone and are not made again, with the verdict on each.
    """
    for use in uses:
        if use.secret in lost:
            return lost[use.secret]
        verdict = _judge(use, secrets, generated=use.secret in generated)
        if not verdict.ok:
            return verdict
    return OK


def _judge(use: Use, secrets: Mapping[str, SecretFacts | None], *, generated: bool) -> Verdict:
    if use.secret not in secrets:
        return wait(
            "SecretNotRead",
            f"Secret {use.secret} can't be read; the operator's log says why, and it is tried again within a minute",
            unknown=True,
        )
    facts = secrets[use.secret]
    if facts is None and generated:
        return wait("SecretPending", f"Secret {use.secret} is being generated")
    if facts is None:
        return stop("DependencyMissing", f"Secret {use.secret} does not exist; create it{_with(use.key)}, and this goes on by itself")
    if use.key and use.key not in facts.keys:
        return stop("DependencyMissing", f"Secret {use.secret} has no key {use.key}; add it, and this goes on by itself")
    return OK


def _with(key: str) -> str:
    return f" with the key {key}" if key else ""


def judge_lost_secret(secret: str, *, instance: str, beside: str) -> Verdict:
    """Return the verdict on a generated password that is gone while what it belongs to is still there.

    Args:
        secret: Name of the Secret.
        instance: Name of the instance, which the label of the restored Secret must have: without it the Secret could be anybody's.
        beside: What it belongs to.
    """
    return stop(
        "DependencyMissing",
        f"Secret {secret} is gone but {beside} is still there, so no new password is made; restore the Secret with its label "
        f"{LABEL_INSTANCE}={instance}, and this goes on by itself",
    )
