// The row that comes first: for each part ok, degraded or down, since when, and what to do.
import { html } from "./html.js";
import { clock, dateTime, duration, has, t } from "./i18n.js";

const PARTS = ["database", "redis", "queue", "channel", "bot"];
const SHAPES = { ok: "M5 12l5 5 9-10", degraded: "M12 5v8M12 17v.5", down: "M6 6l12 12M18 6L6 18", unknown: "M8 9a4 4 0 1 1 5 3.8c-1 .4-1 1-1 2M12 18v.5" };

export const icon = (status) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${SHAPES[status] ?? SHAPES.unknown} /></svg>`;

// Returns [{name, status, since, reason, message}], the API first. Without an answer nothing else is known.
export function verdictsOf({ api, health }) {
  const first = { name: "api", status: api.status, since: api.since, reason: "", message: "" };
  const rest = PARTS.filter((name) => !health || health.components[name]).map((name) => {
    const known = health?.components[name];
    if (api.status !== "ok" || !known) return { name, status: "unknown", since: null, reason: "", message: "" };
    return { name, ...known, status: known.reason === "NotChecked" ? "unknown" : known.status };
  });
  return [first, ...rest];
}

export function worstOf(verdicts) {
  const rank = { ok: 0, unknown: 1, degraded: 2, down: 3 };
  return verdicts.reduce((worst, item) => (rank[item.status] > rank[worst.status] ? item : worst));
}

const isBad = (item) => item.status === "down" || item.status === "degraded";
const said = (item) => (has(`reason.${item.reason}`) ? t(`reason.${item.reason}`) : item.message);
const todo = (item) => [`todo.${item.reason}`, `todo.${item.name}.${item.status}`].find(has);

function Since({ since }) {
  if (!since) return null;
  const seconds = (Date.now() - new Date(since)) / 1000;
  return html`<p class="since"><time datetime=${since} title=${dateTime(since)}>${t("since", { time: clock(since), age: duration(seconds) })}</time></p>`;
}

const Verdict = ({ item }) => html`<li class="verdict ${item.status}">
  <h3>${t(`part.${item.name}`)}</h3>
  <p class="status">${icon(item.status)} <strong>${t(`status.${item.status}`)}</strong></p>
  <${Since} since=${item.since} />
</li>`;

// What is wrong and what to do, in full width below the row: advice must not be squeezed into a card.
const Advice = ({ item }) => html`<section class="advice ${item.status}" aria-labelledby="advice-${item.name}">
  <h3 id="advice-${item.name}">${icon(item.status)} ${t(`part.${item.name}`)}: ${t(`status.${item.status}`)}</h3>
  ${said(item) && html`<p>${said(item)}</p>`}
  ${todo(item) && html`<p class="todo"><strong>${t("todo")}</strong> ${t(todo(item))}</p>`}
</section>`;

// One sentence that a screen reader hears when it changes, and nothing else does.
function summary(verdicts) {
  const bad = verdicts.filter(isBad);
  if (bad.length) return bad.map((item) => `${t(`part.${item.name}`)}: ${t(`status.${item.status}`)}`).join(" · ");
  return verdicts.some((item) => item.status === "unknown") ? t("summary.unknown") : t("summary.ok");
}

export function Verdicts({ state }) {
  const verdicts = verdictsOf(state);
  const worst = worstOf(verdicts);
  return html`<section aria-labelledby="verdicts-title">
    <h2 id="verdicts-title" class="summary ${worst.status}">
      ${icon(worst.status)}<span role="status" aria-live="polite">${summary(verdicts)}</span>
    </h2>
    <ul class="verdicts">${verdicts.map((item) => html`<${Verdict} key=${item.name} item=${item} />`)}</ul>
    ${verdicts.filter(isBad).map((item) => html`<${Advice} key=${item.name} item=${item} />`)}
  </section>`;
}
