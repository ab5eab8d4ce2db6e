"""Generated Secrets: made once, kept, re-adopted; never made again beside data that the old password belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_operator.api.v1alpha1.instance import Mode
from chatbot_operator.constants import ANNOTATION_SYSTEM_IDENTIFIER, LABEL_INSTANCE_UID
from chatbot_operator.desired import names
from chatbot_operator.desired.references import generated_secrets
from chatbot_operator.gates.dependencies import judge_lost_secret
from chatbot_operator.machines.world import World
from chatbot_operator.model.effect import CreateSecret, PatchMetadata
from chatbot_operator.model.verdict import Verdict


@dataclass(frozen=True, slots=True)
class SecretsDecision:
    """What to make or mark, and which are lost. `complete` means that all generated Secrets exist."""

    effects: tuple[CreateSecret | PatchMetadata, ...]
    lost: Mapping[str, Verdict]
    complete: bool


def decide_secrets(world: World, identifier: str) -> SecretsDecision:
    """Decide about generated Secrets.

    Args:
        world: What is known.
        identifier: Of the managed database, empty while unknown.
    """
    effects: list[CreateSecret | PatchMetadata] = []
    lost: dict[str, Verdict] = {}
    complete = True
    for request in generated_secrets(world.name, world.spec):
        if request.name not in world.snapshot.secrets:
            complete = False
        elif world.snapshot.secrets[request.name] is not None:
            patch = _mark(world, request.name, identifier)
            effects += [patch] if patch else []
        else:
            complete = False
            beside = _belongs_to(world, request.name)
            if beside:
                lost[request.name] = judge_lost_secret(request.name, instance=world.name, beside=beside)
            else:
                effects.append(CreateSecret(request))
    return SecretsDecision(tuple(effects), lost, complete)


def _belongs_to(world: World, secret: str) -> str:
    """Return the data that a password belongs to, or an empty text where a new password does no harm.

    The claim is made only after the Secrets, so a claim without its Secret means that the Secret is lost.
    """
    status = world.snapshot.status
    claim = names.claim_name(world.name, status.database.volume_generation)
    managed = world.spec.database.mode is Mode.MANAGED
    exists = managed and (world.child("PersistentVolumeClaim", claim) is not None or bool(status.database.system_identifier))
    if secret == names.postgres_secret(world.name):
        return f"the database on claim {claim}" if exists else ""
    backups = names.backup_claim(world.name)
    if secret == names.backup_key_secret(world.name) and world.child("PersistentVolumeClaim", backups) is not None:
        return f"the claim {backups} with what was encrypted for it"
    if secret == names.admin_secret(world.name) and (exists or status.release.applied is not None):
        return "the administrator's account in the database"
    return ""


def _mark(world: World, secret: str, identifier: str) -> PatchMetadata | None:
    """Return the patch that makes a retained Secret ours, and writes onto the database's which database it belongs to."""
    child = world.child("Secret", secret)
    if child is None or child.deleting:
        return None
    labels = {LABEL_INSTANCE_UID: world.uid} if child.instance_uid != world.uid else {}
    annotations = {}
    if secret == names.postgres_secret(world.name) and identifier and child.details.get("systemIdentifier") != identifier:
        annotations = {ANNOTATION_SYSTEM_IDENTIFIER: identifier}
    return PatchMetadata(child.key, child.uid, annotations, labels) if labels or annotations else None
