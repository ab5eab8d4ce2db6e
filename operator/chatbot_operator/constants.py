"""Names that other parties see: API group, labels, annotations, finalizer, field manager.

Renaming any of these strands objects that already live in clusters, so they are gathered here and never built from parts elsewhere.
"""

from typing import Final

GROUP: Final = "chatbotops.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "chatbot-operator"

LABEL_INSTANCE: Final = f"{GROUP}/instance"
"""Selects everything of one instance; the value is the instance's name. Selection, prune and adoption use nothing else."""
LABEL_INSTANCE_UID: Final = f"{GROUP}/instance-uid"
"""Proves that an object was made for this very instance, not for an earlier one of the same name."""
LABEL_COMPONENT: Final = f"{GROUP}/component"
LABEL_NUMBER: Final = f"{GROUP}/number"
"""The WhatsApp Web number a worker-web object belongs to."""
LABEL_BACKUP: Final = f"{GROUP}/backup"
"""The ChatbotBackup that a Job works for."""
LABEL_MANIFEST_HASH: Final = f"{GROUP}/manifest-hash"
"""On Jobs, which can't be changed: fingerprint of the manifest that they were made from, whatever admission made of it."""

ANNOTATION_RECONCILE_AT: Final = f"{GROUP}/reconcile-at"
"""A request by a person: any new value makes one pass at once; echoed in `status.lastHandledReconcileAt`."""
ANNOTATION_APPLY_UPDATE: Final = f"{GROUP}/apply-operator-update"
"""A request by a person: apply a pod-template change caused only by a newer operator; the value is the operator version."""
ANNOTATION_SECRETS_HASH: Final = f"{GROUP}/secrets-hash"
"""On pod templates: changes when the content of a mounted Secret does, so that consumers restart."""
ANNOTATION_SYSTEM_IDENTIFIER: Final = f"{GROUP}/system-identifier"
"""On the PostgreSQL claim and its password Secret: which database cluster lies on the volume."""
ANNOTATION_INPUTS_HASH: Final = f"{GROUP}/inputs-hash"
"""On workloads: hash of what a person decides about the pod template. Equal inputs and another template mean a newer operator."""
ANNOTATION_TEMPLATE_HASH: Final = f"{GROUP}/template-hash"
"""On workloads: fingerprint of the pod template that we applied. A live template that differs from it was changed by somebody else."""
ANNOTATION_ARGO_OPTIONS: Final = "argocd.argoproj.io/sync-options"

FINALIZER: Final = f"{GROUP}/cleanup"

APP_PORT: Final = 8003
METRICS_PORT: Final = 9103
POSTGRES_PORT: Final = 5432
REDIS_PORT: Final = 6379
