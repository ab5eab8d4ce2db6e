// Calls of the HTTP API. Every failure becomes a Problem with a status (0: no answer) and a kind that pages can translate.
const TIMEOUT_MS = 8000;
let csrf = "";

export class Problem extends Error {
  constructor(status, kind, detail, requestId, retryAfter) {
    super(detail);
    Object.assign(this, { status, kind, detail, requestId, retryAfter });
  }
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  } catch {
    throw new Problem(0, "no-answer", "");
  }
  return answer;
}

async function unpack(answer) {
  if (answer.status === 204) return null;
  let body;
  try {
    body = await answer.json();
  } catch {
    body = {};
  }
  if (answer.ok) return body;
  const kind = String(body.type ?? "").split(":").pop() || "unexpected";
  throw new Problem(answer.status, kind, body.detail ?? "", body.requestId, Number(answer.headers.get("Retry-After")) || null);
}

export const get = async (path) => unpack(await request(path));

export async function post(path, body, headers = {}) {
  const sent = { "Content-Type": "application/json", "X-CSRF-Token": csrf, ...headers };
  return unpack(await request(path, { method: "POST", headers: sent, body: JSON.stringify(body ?? {}) }));
}

// Health and login state in one answer that is 200 as long as the app runs, so that an outage is content and not a failed load.
export async function status() {
  const answer = await get("/api/status");
  if (answer.me) csrf = answer.me.csrfToken;
  return answer;
}

export async function logIn(username, password) {
  const me = await post("/api/auth/login", { username, password });
  csrf = me.csrfToken;
  return me;
}
