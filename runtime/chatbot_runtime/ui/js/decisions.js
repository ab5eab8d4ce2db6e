// Messages that wait for a person, with the three decisions. Shown only while there are some.
import { get, post } from "./api.js";
import { html } from "./html.js";
import { dateTime, t } from "./i18n.js";

const STATES = ["held", "dead"];
const DECISIONS = ["requeue", "mark-sent", "discard"];
const MAY_DECIDE = ["supervisor", "admin"];
const local = { key: "", items: [] };

// Loads the lists again whenever the numbers in the snapshot change.
async function load(states, redraw) {
  const key = STATES.map((name) => states[name] ?? 0).join("/");
  if (key === local.key) return;
  local.key = key;
  const lists = await Promise.all(STATES.filter((name) => states[name]).map((name) => get(`/api/queue/items?state=${name}`)));
  local.items = lists.flatMap((list) => list.items);
  redraw();
}

async function decide(item, decision, attempt) {
  await attempt(async () => {
    await post(`/api/queue/items/${item.id}/decision`, { decision });
    local.items = local.items.filter((other) => other.id !== item.id);
  });
}

export function Decisions({ state, attempt, redraw }) {
  const states = state.snapshot?.queue.states ?? {};
  if (state.stale || !STATES.some((name) => states[name])) return null;
  load(states, redraw).catch((problem) => {
    if (problem.status === undefined) throw problem;
    local.key = ""; // tried again with the next frame
  });
  const may = MAY_DECIDE.includes(state.me.role);
  return html`<section class="panel" aria-labelledby="decisions-title">
    <h2 id="decisions-title">${t("decisions.title")}</h2>
    <p>${t("decisions.help")}</p>
    <div class="scroll" tabindex="0" role="region" aria-labelledby="decisions-title"><table>
      <thead><tr>${["since", "state", "reason", "text"].map((name) => html`<th scope="col" key=${name}>${t(`decisions.${name}`)}</th>`)}${may && html`<th scope="col">${t("decisions.decision")}</th>`}</tr></thead>
      <tbody>${local.items.map((item) => html`<tr key=${item.id}>
        <td>${dateTime(item.since)}</td><td>${t(`decisions.state.${item.state}`)}</td><td>${item.reason}</td><td class="text">${item.text}</td>
        ${may && html`<td class="buttons">${DECISIONS.map((decision) => html`<button type="button" key=${decision} onClick=${() => decide(item, decision, attempt)}>${t(`decisions.${decision}`)}</button>`)}</td>`}
      </tr>`)}</tbody>
    </table></div>
  </section>`;
}
