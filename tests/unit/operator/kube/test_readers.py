"""Secrets, namespaces, CRDs and Events: how often the API is asked, what is kept, and that failures are not swallowed or spread."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, cast

import pytest

from chatbot_operator.errors import Conflict, Forbidden, KubeError, LeadershipLost, NotFound, Throttled, Unavailable
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.crds import missing_of, wait_established
from chatbot_operator.kube.events import BURST, REPEAT_SECONDS, EventRecorder, event_name
from chatbot_operator.kube.namespaces import GOOD_SECONDS, NamespaceReader
from chatbot_operator.kube.reflector import Reflectors, hash_secret
from chatbot_operator.kube.secrets import FOUND_SECONDS, SecretReader
from chatbot_operator.model.effect import Emit, EventType
from chatbot_operator.model.objects import ObjectKey
from chatbot_operator.model.snapshot import Identity
from tests.unit.operator.kube.lives import FakeClock, Live, live


class Api:
    """Objects by name; answers with an error where one is set. Counts what it is asked."""

    def __init__(self) -> None:
        self.objects: dict[str, Live] = {}
        self.error: Exception | None = None
        self.gets = 0
        self.created: list[Mapping[str, Any]] = []
        self.patched: list[Mapping[str, Any]] = []

    async def get(self, kind: str, namespace: str, name: str) -> Live:
        self.gets += 1
        if self.error:
            raise self.error
        if name not in self.objects:
            raise NotFound("not found", status=404)
        return self.objects[name]

    async def create(self, manifest: Mapping[str, Any]) -> Live:
        if self.error:
            raise self.error
        name = manifest["metadata"]["name"]
        if name in self.objects:
            raise Conflict("exists", status=409)
        self.objects[name] = dict(manifest)
        self.created.append(manifest)
        return self.objects[name]

    async def merge_patch(self, key: ObjectKey, patch: Mapping[str, Any]) -> Live:
        self.patched.append(patch)
        return self.objects[key.name]


class NoOwn:
    """No Secret of this instance, and those that an earlier instance left."""

    def __init__(self) -> None:
        self.left: set[str] = set()

    def own_secret(self, namespace: str, name: str, instance_uid: str) -> None:
        return None

    def has_secret(self, namespace: str, name: str) -> bool:
        return name in self.left


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def secrets(api: Api, clock: FakeClock) -> SecretReader:
    return SecretReader(cast(KubeClient, api), clock, cast(Reflectors, NoOwn()))


def secret(value: str) -> Live:
    return live("Secret", "s", 1, data={"k": b64encode(value.encode()).decode()})


async def test_a_missing_secret_is_asked_for_after_5_then_up_to_60_seconds(secrets: SecretReader, api: Api, clock: FakeClock) -> None:
    waits = []
    for _ in range(7):
        assert await secrets.facts("shop", ["s"], "uid") == {"s": None}
        wait = secrets.next_check("shop", ["s"], "uid")
        assert wait is not None
        waits.append(wait)
        clock.seconds += wait
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    assert api.gets == 7


async def test_a_name_of_our_own_is_known_from_the_watch_and_never_asked_for(secrets: SecretReader, api: Api) -> None:
    api.objects["s"] = secret("of somebody else")
    assert await secrets.facts("shop", ["s"], "uid", own={"s"}) == {"s": None}
    assert secrets.next_check("shop", ["s"], "uid") is None
    assert api.gets == 0


async def test_a_secret_that_an_earlier_instance_left_is_read_by_name(api: Api, clock: FakeClock) -> None:
    reflectors = NoOwn()
    reflectors.left.add("s")
    api.objects["s"] = secret("kept")
    found = await SecretReader(cast(KubeClient, api), clock, cast(Reflectors, reflectors)).facts("shop", ["s"], "uid", own={"s"})
    assert found["s"] is not None
    assert api.gets == 1


async def test_a_restored_secret_needs_only_the_label_that_its_condition_names(api: Api, clock: FakeClock) -> None:
    changed: list[tuple[str, str]] = []
    reflectors = Reflectors(cast(KubeClient, api), clock, (), lambda namespace, name: changed.append((namespace, name)))
    restored = live("Secret", "s", 1, instance="demo", data={})
    del restored["metadata"]["labels"]["chatbotops.io/instance-uid"]
    reflectors.learn(restored)
    assert changed == [("shop", "demo")]
    api.objects["s"] = restored
    assert (await SecretReader(cast(KubeClient, api), clock, reflectors).facts("shop", ["s"], "uid", own={"s"}))["s"] is not None


async def test_a_found_secret_is_read_again_within_ten_minutes_and_a_changed_value_shows(
    secrets: SecretReader, api: Api, clock: FakeClock
) -> None:
    api.objects["s"] = secret("one")
    first = await secrets.facts("shop", ["s"], "uid")
    wait = secrets.next_check("shop", ["s"], "uid")
    assert wait is not None
    assert FOUND_SECONDS * 0.8 <= wait <= FOUND_SECONDS
    api.objects["s"] = secret("two")
    clock.seconds += wait - 1
    assert await secrets.facts("shop", ["s"], "uid") == first
    clock.seconds += 1
    assert await secrets.facts("shop", ["s"], "uid") != first
    assert api.gets == 2


async def test_a_kept_secret_that_is_gone_is_known_from_the_watch_and_never_looked_for(api: Api, clock: FakeClock) -> None:
    reflectors = NoOwn()
    reflectors.left.add("s")
    api.objects["s"] = secret("kept")
    reader = SecretReader(cast(KubeClient, api), clock, cast(Reflectors, reflectors))
    await reader.facts("shop", ["s"], "uid", own={"s"})
    reflectors.left.clear()
    clock.seconds += 2 * FOUND_SECONDS
    assert await reader.facts("shop", ["s"], "uid", own={"s"}) == {"s": None}
    assert reader.next_check("shop", ["s"], "uid") is None, "0 would be a pass without end"


async def test_a_secret_that_the_watch_shows_by_now_is_not_looked_for_any_more(api: Api, clock: FakeClock) -> None:
    reflectors = Reflectors(cast(KubeClient, api), clock, (), lambda *_: None)
    reader = SecretReader(cast(KubeClient, api), clock, reflectors)
    await reader.facts("shop", ["s"], "uid-of-bot")
    assert reader.next_check("shop", ["s"], "uid-of-bot") == 5
    reflectors.learn(secret("made"))
    assert (await reader.facts("shop", ["s"], "uid-of-bot"))["s"] is not None
    assert reader.next_check("shop", ["s"], "uid-of-bot") is None


async def test_an_api_server_that_is_away_or_busy_is_an_error_not_a_missing_secret(secrets: SecretReader, api: Api) -> None:
    for error in (Unavailable("away"), Throttled("slow")):
        api.error = error
        with pytest.raises(KubeError) as caught:
            await secrets.facts("shop", ["s"], "uid")
        assert caught.value is error


@pytest.mark.parametrize("error", [Forbidden("no"), Unavailable("decryption failed", status=500)], ids=["forbidden", "broken"])
async def test_a_secret_that_can_not_be_read_is_unknown_not_missing(
    secrets: SecretReader, api: Api, clock: FakeClock, error: Exception
) -> None:
    api.error = error
    assert await secrets.facts("shop", ["s"], "uid") == {}
    assert secrets.next_check("shop", ["s"], "uid") == 5, "and is looked for again"
    api.error, api.objects["s"] = None, secret("there")
    clock.seconds += 5
    assert (await secrets.facts("shop", ["s"], "uid"))["s"] is not None


async def test_one_refusal_does_not_make_a_known_secret_unknown_and_a_second_does(
    secrets: SecretReader, api: Api, clock: FakeClock
) -> None:
    api.objects["s"] = secret("known")
    known = (await secrets.facts("shop", ["s"], "uid"))["s"]
    api.error = Unavailable("decryption failed", status=500)
    clock.seconds += FOUND_SECONDS
    assert (await secrets.facts("shop", ["s"], "uid"))["s"] == known
    assert secrets.next_check("shop", ["s"], "uid") == 5
    clock.seconds += 5
    assert await secrets.facts("shop", ["s"], "uid") == {}


def test_hashes_are_keyed_short_and_hold_no_value() -> None:
    facts = hash_secret(secret("hunter2"), "uid-1")
    assert facts.keys != hash_secret(secret("hunter2"), "uid-2").keys
    assert facts.keys == hash_secret(secret("hunter2"), "uid-1").keys
    assert facts.keys != hash_secret(secret("hunter3"), "uid-1").keys
    assert "hunter2" not in repr(facts)
    assert "aHVudGVyMg" not in repr(facts)


async def test_a_terminating_or_gone_namespace_is_told_and_unknown_is_none(api: Api, clock: FakeClock) -> None:
    reader = NamespaceReader(cast(KubeClient, api), clock)
    api.error = Unavailable("away")
    assert await reader.terminating("shop") is None
    api.error = None
    api.objects["shop"] = {"metadata": {"name": "shop"}}
    assert await reader.terminating("shop") is False
    api.objects["shop"]["metadata"]["deletionTimestamp"] = "now"
    assert await reader.terminating("shop") is False, "cached"
    clock.seconds += GOOD_SECONDS
    assert await reader.terminating("shop") is True
    del api.objects["shop"]
    clock.seconds += GOOD_SECONDS
    assert await reader.terminating("shop") is True


def crd(*versions: tuple[str, bool], established: str = "True") -> Live:
    return {
        "spec": {"versions": [{"name": name, "served": served} for name, served in versions]},
        "status": {"conditions": [{"type": "Established", "status": established}]},
    }


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (crd(("v1alpha1", True)), ""),
        (crd(("v1", True), ("v1alpha1", True)), ""),
        (crd(("v1alpha1", False)), "VersionNotServed"),
        (crd(("v1", True)), "VersionNotServed"),
        (crd(("v1alpha1", True), established="False"), "NotEstablished"),
        ({"spec": {"versions": [{"name": "v1alpha1", "served": True}]}}, "NotEstablished"),
        ({}, "VersionNotServed"),
    ],
)
def test_a_crd_is_usable_when_established_and_serving_our_version(found: Live, reason: str) -> None:
    assert missing_of(found) == reason


async def test_waiting_for_crds_outlasts_absence_and_errors(api: Api) -> None:
    waiting = asyncio.create_task(wait_established(cast(KubeClient, api), ["c"], poll_seconds=0.001))
    while api.gets < 3:  # noqa: ASYNC110 - counting requests is the condition
        await asyncio.sleep(0)
    api.error = Unavailable("away")
    seen = api.gets
    while api.gets < seen + 2:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    assert not waiting.done()
    api.error = None
    api.objects["c"] = crd(("v1alpha1", True))
    await asyncio.wait_for(waiting, 10)


ABOUT = Identity("shop", "bot", "uid-bot", 1, "5")


def words(message: str = "m", reason: str = "Ready") -> Emit:
    return Emit(EventType.NORMAL, reason, message)


async def test_the_same_words_are_said_once_an_hour(api: Api, clock: FakeClock) -> None:
    recorder = EventRecorder(cast(KubeClient, api), clock, "pod-1")
    assert await recorder.emit(ABOUT, words()) is True
    assert await recorder.emit(ABOUT, words()) is False
    assert await recorder.emit(ABOUT, words("other")) is True
    event = api.created[0]
    assert event["metadata"] == {"name": event_name(ABOUT, words()), "namespace": "shop"}
    assert event["regarding"]["uid"] == "uid-bot"
    clock.seconds += REPEAT_SECONDS + 1
    assert await recorder.emit(ABOUT, words()) is False
    assert api.patched[-1]["series"]["count"] == 2, "the Event is still there, so it is counted, not made again"


async def test_another_process_counts_on_instead_of_repeating(api: Api, clock: FakeClock) -> None:
    await EventRecorder(cast(KubeClient, api), clock, "pod-1").emit(ABOUT, words())
    await EventRecorder(cast(KubeClient, api), clock, "pod-2").emit(ABOUT, words())
    assert len(api.created) == 1
    assert api.patched[-1]["series"]["count"] == 2


async def test_an_instance_that_says_too_much_is_silenced_and_others_are_not(api: Api, clock: FakeClock) -> None:
    recorder = EventRecorder(cast(KubeClient, api), clock, "pod-1")
    said = [await recorder.emit(ABOUT, words(f"m{number}")) for number in range(BURST + 5)]
    assert said == [True] * BURST + [False] * 5
    assert await recorder.emit(Identity("shop", "other", "uid-other", 1, "5"), words()) is True
    clock.seconds += 301
    assert await recorder.emit(ABOUT, words("later")) is True


@pytest.mark.parametrize("error", [Forbidden("namespace is being terminated"), Unavailable("away"), LeadershipLost("not the leader")])
async def test_an_event_that_fails_fails_nothing_else_and_is_tried_again(api: Api, clock: FakeClock, error: Exception) -> None:
    recorder = EventRecorder(cast(KubeClient, api), clock, "pod-1")
    api.error = error
    assert await recorder.emit(ABOUT, words()) is False
    api.error = None
    assert await recorder.emit(ABOUT, words()) is True


async def test_long_words_are_cut_to_what_the_api_takes(api: Api, clock: FakeClock) -> None:
    await EventRecorder(cast(KubeClient, api), clock, "p" * 500).emit(ABOUT, words("x" * 5000))
    assert len(api.created[0]["note"]) == 1024
    assert len(api.created[0]["reportingInstance"]) == 128
