"""Who speaks, through the API: conversations are taken over and given back, audited; those with a person are listed and counted.

Needs PostgreSQL and Redis.
"""

from uuid import uuid4

import httpx
import pytest

from tests.component.running import Api, api_fixture  # noqa: F401  a fixture
from tests.component.servers import Database

pytestmark = pytest.mark.component

TO = "5215512345678"


async def taken_over(api: Api) -> str:
    """Let a person write, and return the conversation."""
    answer = await api.client.post("/api/messages", json={"to": TO, "text": "hola"}, headers={"idempotency-key": "k"})
    return str(answer.json()["conversationId"])


async def hand(api: Api, chat: object, mode: str) -> httpx.Response:
    return await api.client.post(f"/api/conversations/{chat}/mode", json={"mode": mode})


async def test_a_conversation_is_given_back_and_taken_over_once_each_and_audited(api: Api, database: Database) -> None:
    me = await api.log_in()
    chat = await taken_over(api)
    for mode in ("bot", "bot", "human"):
        answer = await hand(api, chat, mode)
        assert (answer.status_code, answer.json()) == (200, {"mode": mode})
    assert database.sql("SELECT mode, mode_epoch, mode_reason FROM conversations") == ["human|3|by hand"]
    events = [event for event in (await api.client.get("/api/audit")).json()["events"] if event["action"] == "conversation.mode"]
    assert [(event["target"], event["actorName"]) for event in events] == [(chat, me["username"])] * 2


async def test_those_with_a_person_are_listed_and_counted(api: Api, database: Database) -> None:
    await api.log_in()
    chat = await taken_over(api)
    listed = (await api.client.get("/api/conversations?mode=human")).json()
    assert (listed["total"], listed["items"][0]["id"], listed["items"][0]["phone"]) == (1, chat, TO)
    assert (await api.client.get("/api/conversations")).json() == {"items": [], "total": 0}
    database.sql("UPDATE conversations SET mode = 'pending_human', mode_reason = 'asked'")
    assert (await api.client.get("/api/conversations")).json()["items"][0]["reason"] == "asked"
    assert (await api.client.get("/api/dashboard/snapshot")).json()["conversations"] == {"pending_human": 1, "human": 0}


async def test_what_is_no_mode_or_no_conversation_is_refused(api: Api) -> None:
    await api.log_in()
    chat = await taken_over(api)
    assert (await hand(api, chat, "closed")).status_code == 422
    assert (await hand(api, uuid4(), "bot")).status_code == 404
    del api.client.headers["x-csrf-token"]
    assert (await hand(api, chat, "bot")).status_code == 403
