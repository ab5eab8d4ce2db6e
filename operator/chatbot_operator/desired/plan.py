"""Composes the whole desired state of an instance: stages in dependency order with the gates between them."""

from collections.abc import Iterable

from chatbot_operator.api.v1alpha1.instance import Mode
from chatbot_operator.desired import app, backup, migrate, names, network, postgres, redis, scheduler, worker_web
from chatbot_operator.desired.inputs import Inputs
from chatbot_operator.desired.metadata import Object, child, once
from chatbot_operator.model.objects import key_of
from chatbot_operator.model.plan import Plan, Stage
from chatbot_operator.model.targets import ReleaseTarget, Targets

FOUNDATION = "foundation"
"""Accounts and policies: there before any pod, and without a gate."""


def render_plan(inputs: Inputs) -> Plan:
    """Return everything that shall exist now, apart from held components, which stay as they are."""
    spec, targets = inputs.spec, inputs.targets
    claim = backup.render_claim(inputs) if not targets.backup_hold else None
    stages = [_foundation(inputs), *([_stage(names.BACKUP, [claim])] if claim else [])]
    if spec.database.mode is Mode.MANAGED:
        stages += _postgres(inputs)
    if spec.cache.mode is Mode.MANAGED and not targets.redis.hold:
        stages.append(_redis(inputs))
    stores = _stores(inputs)
    if targets.migrate is not None and targets.migrate.release is not None:
        job = once(migrate.render_job(inputs, targets.migrate, targets.migrate.release))
        # The cache plays no part in a migration.
        stages.append(_stage(names.MIGRATE, [job], needs=tuple(name for name in stores if name == names.POSTGRES), once=[job]))
    if targets.app.release is not None and not targets.app.hold:
        stages.append(_app(inputs, targets.app.release, stores))
    if targets.scheduler.release is not None and not targets.scheduler.hold:
        deployment = scheduler.render_deployment(inputs, targets.scheduler.release)
        stages.append(_stage(names.SCHEDULER, [deployment], needs=(*stores, names.APP), gate=[deployment]))
    if targets.worker_web.release is not None and not targets.worker_web.hold:
        stages += _workers(inputs, targets.worker_web.release, stores)
    return Plan(
        stages=tuple(stages),
        untouched=_untouched(targets),
    )


def _untouched(targets: Targets) -> frozenset[str]:
    found = {name for name, target in ((names.POSTGRES, targets.postgres), (names.REDIS, targets.redis)) if target.hold}
    for name, target in ((names.APP, targets.app), (names.SCHEDULER, targets.scheduler), (names.WORKER_WEB, targets.worker_web)):
        if target.hold or target.release is None:
            found.add(name)
    return frozenset(found)


def _stores(inputs: Inputs) -> tuple[str, ...]:
    """Return the stages of the stores that we run; what needs them waits for them, also while they are held."""
    managed = ((names.POSTGRES, inputs.spec.database.mode), (names.REDIS, inputs.spec.cache.mode))
    return tuple(name for name, mode in managed if mode is Mode.MANAGED)


def _foundation(inputs: Inputs) -> Stage:
    components = [names.MIGRATE, names.APP, names.SCHEDULER]
    if inputs.spec.database.mode is Mode.MANAGED:
        components.append(names.POSTGRES)
    if inputs.spec.cache.mode is Mode.MANAGED:
        components.append(names.REDIS)
    if inputs.spec.worker_web.numbers:
        components.append(names.WORKER_WEB)
    if inputs.spec.backup is not None:
        components.append(names.BACKUP)
    accounts = [
        child(inputs, "ServiceAccount", names.component_name(inputs.name, component), component, automountServiceAccountToken=False)
        for component in components
    ]
    return _stage(FOUNDATION, [*accounts, *network.render_policies(inputs)])


def _postgres(inputs: Inputs) -> list[Stage]:
    """Return the volume, the Job that bootstraps it while that is due, and the server, which is held until the database is known."""
    stages, targets = [], inputs.targets
    if not targets.volume_hold:
        claim = postgres.render_claim(inputs)
        stages.append(_stage(names.POSTGRES_VOLUME, [claim]))
    if targets.bootstrap is not None:
        job = once(postgres.render_bootstrap(inputs, targets.bootstrap))
        stages.append(_stage(names.BOOTSTRAP, [job], once=[job]))
    if not targets.postgres.hold:
        server = postgres.render_server(inputs)
        stages.append(_stage(names.POSTGRES, [postgres.render_service(inputs), server], gate=[server]))
    return stages


def _redis(inputs: Inputs) -> Stage:
    claim, server = redis.render_claim(inputs), redis.render_server(inputs)
    volumes = [claim] if claim else []
    return _stage(names.REDIS, [*volumes, redis.render_service(inputs), server], gate=[server])


def _app(inputs: Inputs, release: ReleaseTarget, stores: tuple[str, ...]) -> Stage:
    deployment = app.render_deployment(inputs, release)
    extras = [made for made in (app.render_budget(inputs), app.render_autoscaler(inputs)) if made is not None]
    return _stage(names.APP, [app.render_service(inputs), deployment, *extras], needs=stores, gate=[deployment])


def _workers(inputs: Inputs, release: ReleaseTarget, stores: tuple[str, ...]) -> list[Stage]:
    made = []
    for number in inputs.spec.worker_web.numbers:
        claim, worker = worker_web.render_claim(inputs, number), worker_web.render_worker(inputs, number, release)
        needs = (*stores, names.APP, names.SCHEDULER)
        made.append(_stage(names.web_component(number.name), [claim, worker], needs=needs, gate=[worker]))
    return made


def _stage(
    name: str,
    manifests: Iterable[Object],
    *,
    needs: tuple[str, ...] = (),
    gate: Iterable[Object] = (),
    once: Iterable[Object] = (),
) -> Stage:
    return Stage(
        name=name,
        manifests=tuple(manifests),
        needs=needs,
        gate=tuple(key_of(made) for made in gate),
        once=frozenset(key_of(made) for made in once),
    )
