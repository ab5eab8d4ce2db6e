// The one source of what pages show: polls /api/status, and follows the dashboard's socket while somebody is logged in.
// Falls back to polling the snapshot, and says since when data is stale instead of showing old numbers as new ones.
import { get, post, status } from "./api.js";

const POLL_MS = 4000;
const STALE_MS = 15000;
const SOCKET_FIRST_FRAME_MS = 8000;
const BACKOFF_MS = [1000, 2000, 5000, 10000, 30000];

const state = {
  api: { status: "unknown", since: null },
  health: null, // {status, components, instance, version}
  me: undefined, // undefined: not known, null: nobody
  snapshot: null,
  snapshotAt: null, // when it was last confirmed, by this browser's clock
  transport: "none", // none, polling, live
};
let notify = () => {};
let socket = null;
let failures = 0;
let resume = {};
let retryTimer = null;

const changed = () => notify({ ...state, stale: isStale() });
const isStale = () => state.snapshotAt !== null && Date.now() - state.snapshotAt > STALE_MS;

// The API is up since it started, and down since this page first noticed.
function setApi(status, since = new Date().toISOString()) {
  if (state.api.status !== status || status === "ok") state.api = { status, since };
}

async function pollStatus() {
  try {
    const answer = await status();
    setApi("ok", answer.startedAt);
    state.health = answer;
    if (answer.meKnown) setMe(answer.me);
  } catch {
    setApi("down");
  }
  changed();
}

function setMe(me) {
  const before = state.me?.username;
  state.me = me;
  if (me && before !== me.username) connect();
  if (!me) forget();
}

function forget() {
  clearTimeout(retryTimer);
  Object.assign(state, { snapshot: null, snapshotAt: null, transport: "none" });
  resume = {};
  socket?.close();
  socket = null;
}

async function connect() {
  clearTimeout(retryTimer);
  if (!state.me || socket) return;
  let ticket;
  try {
    ticket = await post("/api/auth/ws-token");
  } catch {
    retryLater();
    return;
  }
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const opened = new WebSocket(`${scheme}://${location.host}/api/ws`);
  socket = opened;
  const impatient = setTimeout(() => opened.close(), SOCKET_FIRST_FRAME_MS);
  opened.onopen = () => opened.send(JSON.stringify({ ticket: ticket.token, ...resume }));
  opened.onmessage = (event) => {
    clearTimeout(impatient);
    failures = 0;
    take(JSON.parse(event.data));
  };
  opened.onclose = () => {
    clearTimeout(impatient);
    if (socket !== opened) return;
    socket = null;
    retryLater();
  };
}

function retryLater() {
  if (!state.me) return;
  state.transport = "polling";
  const wait = BACKOFF_MS[Math.min(failures++, BACKOFF_MS.length - 1)];
  retryTimer = setTimeout(connect, wait * (0.5 + Math.random()));
  pollSnapshot();
}

// A frame is a whole snapshot, or the sections that changed since the frame before. A gap in seq asks for a new snapshot.
function take(frame) {
  if (frame.kind === "snapshot") state.snapshot = frame.data;
  else if (frame.feed === resume.feed && frame.from <= resume.seq) state.snapshot = { ...state.snapshot, ...frame.data };
  else {
    resume = {};
    socket?.close();
    return;
  }
  resume = { feed: frame.feed, seq: frame.seq };
  state.transport = "live";
  state.snapshotAt = Date.now();
  changed();
}

async function pollSnapshot() {
  if (state.transport !== "polling" || !state.me || state.api.status !== "ok") return;
  if (state.health?.components?.database?.status === "down") return; // it can only fail, and the page already says why
  try {
    state.snapshot = await get("/api/dashboard/snapshot");
    state.snapshotAt = Date.now();
  } catch {
    // staleness is shown from snapshotAt
  }
  changed();
}

export function refresh() {
  return pollStatus();
}

export function start(onChange) {
  notify = onChange;
  setInterval(pollStatus, POLL_MS);
  setInterval(pollSnapshot, POLL_MS);
  setInterval(changed, 1000); // ages count up, and staleness shows, without any answer
  return pollStatus();
}
