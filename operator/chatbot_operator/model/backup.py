"""What a pass over one ChatbotBackup knows, gathered before anything is decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from chatbot_operator.api.v1alpha1.backup import ChatbotBackupSpec, ChatbotBackupStatus
from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.constants import ANNOTATION_RECONCILE_AT
from chatbot_operator.model.objects import ChildState, ObjectKey
from chatbot_operator.model.snapshot import EffectFailure, Identity, OperatorFacts, SecretFacts


@dataclass(frozen=True, slots=True)
class InstanceView:
    """The instance as a backup sees it. `spec` is None when it does not validate."""

    uid: str
    deleting: bool
    spec: ChatbotInstanceSpec | None
    status: ChatbotInstanceStatus


@dataclass(frozen=True, slots=True)
class BackupSnapshot:
    """Input of every decision about a backup. `spec` is None when it does not validate; `spec_error` then says why.

    `instance` is None when there is none of that name. `children` are the Jobs of this backup and their pods. `ahead` names the backups of
    the same instance that go first, one at a time: those at work, then in the order in which they were asked for. `migrating` tells
    whether a migration of the instance is at work.
    """

    identity: Identity
    spec: ChatbotBackupSpec | None
    spec_error: str
    status: ChatbotBackupStatus
    instance: InstanceView | None
    children: Mapping[ObjectKey, ChildState]
    secrets: Mapping[str, SecretFacts | None]
    ahead: tuple[str, ...]
    operator: OperatorFacts
    now: datetime
    migrating: bool = False
    namespace_terminating: bool | None = None
    failures: tuple[EffectFailure, ...] = ()

    @property
    def requested(self) -> bool:
        """Return whether a person asks for a pass that was not made yet: a Job that failed is tried again."""
        asked = self.identity.annotations.get(ANNOTATION_RECONCILE_AT)
        return asked is not None and asked != self.status.last_handled_reconcile_at
