// index.html: log in, see the state, send a test message, read the audit trail. The smoke test of the runbook (section 9) on one page.
import { get, logIn, post } from "./api.js";
import { Decisions } from "./decisions.js";
import { html } from "./html.js";
import { dateTime, has, t } from "./i18n.js";
import { refresh } from "./live.js";
import { Freshness, Queue } from "./panels.js";
import { People } from "./people.js";
import { run, Shell } from "./shell.js";
import { Verdicts } from "./verdicts.js";

const AUDIT_ROLES = ["supervisor", "admin"];
const SEND_ROLES = ["agent", "supervisor", "admin"];
// Not crypto.randomUUID: a page over plain http has it on localhost only.
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const local = { busy: false, error: null, sent: null, audit: null, auditFor: null, key: newKey() };
let redraw = () => {};

const sentence = (problem) =>
  problem.retryAfter && problem.kind === "too-many-logins" ? t("problem.too-many-logins", { seconds: problem.retryAfter })
  : has(`problem.${problem.kind}`) ? t(`problem.${problem.kind}`)
  : problem.detail || t("problem.unexpected");

async function attempt(action) {
  Object.assign(local, { busy: true, error: null });
  redraw();
  try {
    await action();
  } catch (problem) {
    if (problem.status === undefined) throw problem; // a bug of ours, not an answer
    local.error = { text: sentence(problem), id: problem.requestId };
  }
  local.busy = false;
  redraw();
}

const audited = (action) => attempt(async () => { await action(); local.auditFor = null; }); // the audit trail has it: read it again

function onLogIn(event) {
  event.preventDefault();
  const form = new FormData(event.target);
  attempt(async () => {
    await logIn(form.get("username"), form.get("password"));
    local.auditFor = null;
    await refresh();
  });
}

function onLogOut() {
  attempt(async () => {
    await post("/api/auth/logout");
    Object.assign(local, { sent: null, audit: null, auditFor: null });
    await refresh();
  });
}

// The key stays the same until the message was accepted, so that a second click after a lost answer can't send twice.
function onSend(event) {
  event.preventDefault();
  const form = event.target;
  const fields = new FormData(form);
  attempt(async () => {
    const message = await post("/api/messages", { to: fields.get("to"), text: fields.get("text") }, { "Idempotency-Key": local.key });
    Object.assign(local, { sent: message, key: newKey(), auditFor: null }); // the audit trail has it: read it again
    form.reset();
  });
}

async function loadAudit(state) {
  if (local.auditFor === state.me.username || state.health?.components?.database?.status === "down") return;
  local.auditFor = state.me.username;
  try {
    local.audit = (await get("/api/audit?limit=10")).events;
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    local.auditFor = null;
  }
  redraw();
}

const Failure = () => local.error && html`<p class="notice bad" role="alert">${local.error.text}${local.error.id && html` <small>${t("request.id")} <code>${local.error.id}</code></small>`}</p>`;

const LogIn = ({ state }) => html`<section class="panel narrow" aria-labelledby="login-title">
  <h2 id="login-title">${t("login.title")}</h2>
  ${state.health?.components?.database?.status === "down" && html`<p class="notice">${t("login.database")}</p>`}
  <form onSubmit=${onLogIn}>
    <label for="username">${t("login.username")}</label>
    <input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck=${false} required maxlength="64" />
    <label for="password">${t("login.password")}</label>
    <input id="password" name="password" type="password" autocomplete="current-password" required maxlength="256" />
    <${Failure} />
    <button type="submit" class="primary" disabled=${local.busy}>${t(local.busy ? "busy" : "login.submit")}</button>
  </form>
</section>`;

const Send = ({ state }) => html`<section class="panel" aria-labelledby="send-title">
  <h2 id="send-title">${t("send.title")}</h2>
  <form onSubmit=${onSend}>
    <label for="to">${t("send.to")}</label>
    <input id="to" name="to" type="tel" inputmode="tel" required pattern="\\+?[0-9]{8,15}" aria-describedby="to-hint" placeholder="521234567890" />
    <p class="hint" id="to-hint">${t("send.to.hint")}</p>
    <label for="text">${t("send.text")}</label>
    <textarea id="text" name="text" rows="3" required maxlength="4096"></textarea>
    <p class="hint">${state.health?.humanIdleHours ? t("send.takes", { hours: state.health.humanIdleHours }) : t("send.takes.kept")}</p>
    <${Failure} />
    <div role="status">${local.sent && html`<p class="notice good">${t("send.done", { id: local.sent.id })}</p>`}</div>
    <button type="submit" class="primary" disabled=${local.busy}>${t(local.busy ? "busy" : "send.submit")}</button>
  </form>
</section>`;

const Audit = () => html`<section class="panel" aria-labelledby="audit-title">
  <h2 id="audit-title">${t("audit.title")}</h2>
  ${!local.audit ? html`<p>${t("busy")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-labelledby="audit-title"><table>
    <thead><tr>${["at", "action", "outcome", "actor", "ip"].map((name) => html`<th scope="col" key=${name}>${t(`audit.${name}`)}</th>`)}</tr></thead>
    <tbody>${local.audit.map((event) => html`<tr key=${event.id}>
      <td>${dateTime(event.at)}</td><td><code>${event.action}</code></td><td>${t(`outcome.${event.outcome}`)}</td>
      <td>${event.actorName || t(`actor.${event.actorKind}`)}</td><td>${event.ip}</td></tr>`)}</tbody>
  </table></div>`}
</section>`;

function Home({ state }) {
  if (state.me === null) return html`<${LogIn} state=${state} />`;
  if (!state.me) return null;
  if (AUDIT_ROLES.includes(state.me.role)) loadAudit(state);
  return html`<div class="columns"><${Queue} state=${state} />${SEND_ROLES.includes(state.me.role) && html`<${Send} state=${state} />`}</div>
    <${Decisions} state=${state} attempt=${audited} redraw=${redraw} />
    ${SEND_ROLES.includes(state.me.role) && html`<${People} state=${state} attempt=${audited} redraw=${redraw} />`}
    ${AUDIT_ROLES.includes(state.me.role) && html`<${Audit} />`}`;
}

run("page.home", (state, rerender) => {
  redraw = rerender;
  return html`<${Shell} page="page.home" state=${state} rerender=${rerender} onLogOut=${onLogOut}>
    <${Verdicts} state=${state} /><${Freshness} state=${state} /><${Home} state=${state} />
  <//>`;
});
