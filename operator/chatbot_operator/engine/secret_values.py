"""Makes the random values of generated Secrets; the only place where the operator ever holds one."""

import secrets
import string
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from pyrage import x25519

from chatbot_operator.constants import ANNOTATION_ARGO_OPTIONS, LABEL_COMPONENT, LABEL_INSTANCE, LABEL_INSTANCE_UID
from chatbot_operator.model.plan import GeneratedSecret
from chatbot_operator.model.snapshot import Identity

PASSWORD_LENGTH: Final = 32
KEY_BYTES: Final = 32
_ALPHABET: Final = string.ascii_letters + string.digits
_LITERAL: Final = "literal:"


def make_secret(request: GeneratedSecret, owner: Identity) -> dict[str, Any]:
    """Return the manifest of a generated Secret with fresh values.

    It carries no ownerReference, because it outlives the instance: an instance of the same name finds its data again.

    Raises:
        ValueError: The request asks for a kind of value that does not exist; a mistake in our own code.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": request.name,
            "namespace": owner.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "chatbot-operator",
                LABEL_COMPONENT: request.component,
                LABEL_INSTANCE: owner.name,
                LABEL_INSTANCE_UID: owner.uid,
            },
            "annotations": {ANNOTATION_ARGO_OPTIONS: "Prune=false"},
        },
        "type": "Opaque",
        "data": {name: b64encode(value.encode()).decode() for name, value in _make_all(request.values).items()},
    }


def _make_all(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the values of one Secret. Its age identity and recipient belong together."""
    identity = x25519.Identity.generate() if "age-identity" in wanted.values() else None
    pair = {"age-identity": str(identity), "age-recipient": str(identity.to_public())} if identity is not None else {}
    return {name: pair[how] if how in pair else _make(how) for name, how in wanted.items()}


def _make(how: str) -> str:
    if how == "password":
        return "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_LENGTH))
    if how == "key":
        return secrets.token_hex(KEY_BYTES)
    if how.startswith(_LITERAL):
        return how.removeprefix(_LITERAL)
    raise ValueError(f"unknown kind of secret value: {how}")
