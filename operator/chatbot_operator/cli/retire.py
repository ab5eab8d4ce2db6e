"""Takes the operator out of service before it is uninstalled: stop it, wait until nobody leads, release every instance.

Run by the chart's pre-delete Job. It never deletes a custom resource: chatbots keep running without their operator, and a later
installation finds them again. Every step may be repeated.

Exit codes: 0 done; 1 not done in time, or the API server refused; 2 started wrongly.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chatbot_operator.constants import FINALIZER
from chatbot_operator.errors import ConfigError, Conflict, KubeError, NotFound, NotServed, Unavailable
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.model.objects import ObjectKey

DONE: Final = 0
FAILED: Final = 1
MISCONFIGURED: Final = 2
POLL_SECONDS: Final = 0.5
ATTEMPTS: Final = 5
"""Tries to release one instance while others change it."""


class TimedOut(Exception):
    """The time ran out; the text says while waiting for what."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Which operator is taken out of service. `namespace` holds its Deployment and its Lease; `watched` are its instances' (empty: all)."""

    namespace: str
    deployment: str
    lease: str
    watched: tuple[str, ...] = ()


class Retirement:
    """The steps, in order. `say` gets one line of progress each."""

    def __init__(self, client: KubeClient, operator: Operator, say: Callable[[str], None], *, timeout_seconds: float) -> None:
        self._client = client
        self._operator = operator
        self._say = say
        self._deadline = time.monotonic() + timeout_seconds

    async def run(self) -> int:
        """Do all steps and return how many instances were released.

        Raises:
            TimedOut: Not done in time.
            KubeError: The API server refused.
        """
        await self._scale_down()
        await self._wait_unled()
        released = await self._release_all()
        await self._delete_lease()
        return released

    async def _scale_down(self) -> None:
        """Ask for 0 replicas. Pods end by themselves; the Lease, not the pod, says when nobody acts any more."""
        key = ObjectKey("Deployment", self._operator.namespace, self._operator.deployment)
        try:
            await self._patiently(lambda: self._client.merge_patch(key, {"spec": {"replicas": 0}}), "the Deployment")
        except NotFound:
            self._say(f"{key} does not exist; nothing to stop")
            return
        self._say(f"{key} is scaled to 0")

    async def _wait_unled(self) -> None:
        """Wait until the Lease has no holder, or its holder no longer renews it: seen to stay the same for its whole duration."""
        seen, since = "", time.monotonic()
        said = False
        while True:
            lease = await self._lease()
            spec = (lease or {}).get("spec") or {}
            if lease is None or not spec.get("holderIdentity"):
                self._say("no operator holds the Lease")
                return
            version = lease["metadata"]["resourceVersion"]
            if version != seen:
                seen, since = version, time.monotonic()
            elif time.monotonic() - since > float(spec.get("leaseDurationSeconds") or 0) + POLL_SECONDS:
                self._say("the last holder of the Lease no longer renews it")
                return
            if not said:
                self._say(f"waiting for {spec['holderIdentity']} to give up the Lease")
                said = True
            await self._pause("the Lease to be given up")

    async def _lease(self) -> Any:
        try:
            return await self._patiently(lambda: self._client.get("Lease", self._operator.namespace, self._operator.lease), "the Lease")
        except NotFound:
            return None

    async def _delete_lease(self) -> None:
        """Delete the Lease, which no chart owns because the operator itself makes it."""
        lease = await self._lease()
        if lease is None:
            return
        key = ObjectKey("Lease", self._operator.namespace, self._operator.lease)
        await self._patiently(lambda: self._client.delete(key, lease["metadata"]["uid"]), "the Lease")
        self._say(f"{key} is deleted")

    async def _release_all(self) -> int:
        """Release the instances that this operator watches, and name the others.

        Those of other namespaces may be another operator's. Whether there is one would be a matter of Leases everywhere, which this
        command has no right to read; so it says of each what a person can do.
        """
        released = seen = 0
        watched = self._operator.watched
        try:
            async for page in self._client.list_pages("ChatbotInstance", metadata_only=True):
                for live in page.items:
                    if watched and live["metadata"]["namespace"] not in watched:
                        self._name_left(live["metadata"])
                        continue
                    seen += 1
                    released += await self._release(live)
        except NotServed:
            self._say("the kind ChatbotInstance is not installed; nothing to release")
            return 0
        self._say(f"{seen} instances looked at, {released} released; none was deleted")
        return released

    def _name_left(self, metadata: dict[str, Any]) -> None:
        """Say of an instance of a namespace that is not watched that it is still held, and how to free it."""
        finalizers = metadata.get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        namespace, name = metadata["namespace"], metadata["name"]
        patch = json.dumps(_without_ours(finalizers), separators=(",", ":"))
        self._say(
            f"{ObjectKey('ChatbotInstance', namespace, name)} is left as it is, because its namespace is not watched; "
            f"if no other operator serves it: kubectl -n {namespace} patch chatbotinstance {name} --type=json -p '{patch}'"
        )

    async def _release(self, live: dict[str, Any]) -> bool:
        """Take our finalizer, and nothing else, off one instance."""
        metadata = live["metadata"]
        key = ObjectKey("ChatbotInstance", metadata["namespace"], metadata["name"])
        for _ in range(ATTEMPTS):
            finalizers = metadata.get("finalizers") or []
            if FINALIZER not in finalizers:
                return False
            operations = [{"op": "test", "path": "/metadata/uid", "value": metadata["uid"]}, *_without_ours(finalizers)]
            try:
                await self._patiently(lambda: self._client.json_patch(key, operations), str(key))  # noqa: B023 awaited at once
            except NotFound:
                return False
            except Conflict:
                try:
                    metadata = (await self._client.get(key.kind, key.namespace, key.name))["metadata"]
                except NotFound:
                    return False
            else:
                self._say(f"{key} is released")
                return True
        raise Conflict("others keep changing the instance", status=409, target=str(key))

    async def _patiently(self, request: Callable[[], Any], what: str) -> Any:
        """Send a request again while the API server is away."""
        while True:
            try:
                return await request()
            except Unavailable:
                await self._pause(f"an answer about {what}")

    async def _pause(self, what: str) -> None:
        if time.monotonic() >= self._deadline:
            raise TimedOut(f"timed out waiting for {what}")
        await asyncio.sleep(POLL_SECONDS)


def _without_ours(finalizers: list[str]) -> list[dict[str, str]]:
    """Return the JSON patch that takes our finalizer, and no other that has come to stand in its place, off the list."""
    path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; argparse exits with 2 on a mistake."""
    parser = argparse.ArgumentParser(prog="retire", description="Take the chatbot operator out of service without touching any chatbot.")
    parser.add_argument("--namespace", required=True, help="namespace of the operator")
    parser.add_argument("--deployment", required=True, help="name of the operator's Deployment")
    parser.add_argument("--lease", required=True, help="name of the operator's Lease")
    parser.add_argument("--watch-namespaces", default="", help="comma list of the namespaces it watches; empty means all")
    parser.add_argument("--timeout-seconds", type=float, default=200.0, help="seconds for everything")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    sys.stdout.write(f"retire: {line}\n")
    sys.stdout.flush()


async def _run(options: argparse.Namespace) -> int:
    client = await KubeClient.connect(lambda: None, lambda _verb, _code: None)
    watched = tuple(part.strip() for part in options.watch_namespaces.split(",") if part.strip())
    operator = Operator(options.namespace, options.deployment, options.lease, watched)
    try:
        await Retirement(client, operator, _say, timeout_seconds=options.timeout_seconds).run()
    except TimedOut as error:
        _say(f"not done: {error}")
        return FAILED
    except KubeError as error:
        _say(f"not done: {error.reason}: {error}")
        return FAILED
    finally:
        await client.close()
    return DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return asyncio.run(_run(options))
    except ConfigError as error:
        _say(f"not started: {error}")
        return MISCONFIGURED


if __name__ == "__main__":
    sys.exit(main())
