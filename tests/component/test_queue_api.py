"""A person's decisions about held and dead messages through the API. Needs PostgreSQL and Redis."""

import pytest

from tests.component.running import Api, api_fixture  # noqa: F401  a fixture
from tests.component.servers import Database

pytestmark = pytest.mark.component


async def queued(api: Api, database: Database, state: str) -> str:
    """Queue a message and put it into a state, as an attempt without an answer would."""
    message = {"to": "5215512345678", "text": f"a {state} one"}
    answer = await api.client.post("/api/messages", json=message, headers={"idempotency-key": state})
    database.sql(f"UPDATE outbox SET state = '{state}', reason = 'no answer' WHERE message_id = '{answer.json()['id']}'")  # noqa: S608  values of this test
    database.sql(f"UPDATE messages SET status = '{state}' WHERE id = '{answer.json()['id']}'")  # noqa: S608  values of this test
    return str(answer.json()["id"])


@pytest.mark.parametrize(("decision", "status"), [("requeue", "queued"), ("discard", "cancelled"), ("mark-sent", "sent")])
@pytest.mark.parametrize("state", ["held", "dead"])
async def test_a_decision_is_carried_out_once_and_audited(api: Api, database: Database, state: str, decision: str, status: str) -> None:
    await api.log_in()
    message_id = await queued(api, database, state)
    listed = (await api.client.get(f"/api/queue/items?state={state}")).json()
    assert (listed["total"], listed["items"][0]["id"], listed["items"][0]["reason"]) == (1, message_id, "no answer")
    answer = await api.client.post(f"/api/queue/items/{message_id}/decision", json={"decision": decision})
    assert (answer.status_code, answer.json()) == (200, {"status": status})
    assert (await api.client.get(f"/api/messages/{message_id}")).json()["status"] == status
    assert (await api.client.get(f"/api/queue/items?state={state}")).json()["total"] == 0
    event = (await api.client.get("/api/audit?limit=1")).json()["events"][0]
    assert (event["action"], event["target"]) == (f"message.{decision}", message_id)
    again = await api.client.post(f"/api/queue/items/{message_id}/decision", json={"decision": "mark-sent"})
    assert again.status_code == 409


async def test_an_unknown_decision_or_state_is_refused(api: Api, database: Database) -> None:
    await api.log_in()
    message_id = await queued(api, database, "held")
    assert (await api.client.post(f"/api/queue/items/{message_id}/decision", json={"decision": "burn"})).status_code == 422
    assert (await api.client.get("/api/queue/items?state=burnt")).status_code == 422
    assert (await api.client.get("/api/queue/items")).json()["total"] == 1
