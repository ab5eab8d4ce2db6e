// Conversations that wait for a person or are with one, and the buttons that take one over or give it back to the bot.
import { get, post } from "./api.js";
import { html } from "./html.js";
import { dateTime, t } from "./i18n.js";

const MODES = ["pending_human", "human"];
const local = { key: "", items: [] };

// Loads the lists again whenever the numbers in the snapshot change.
async function load(counts, redraw) {
  const key = MODES.map((mode) => counts[mode] ?? 0).join("/");
  if (key === local.key) return;
  local.key = key;
  const lists = await Promise.all(MODES.filter((mode) => counts[mode]).map((mode) => get(`/api/conversations?mode=${mode}`)));
  local.items = lists.flatMap((list) => list.items);
  redraw();
}

async function hand(item, mode, attempt) {
  await attempt(async () => {
    const changed = await post(`/api/conversations/${item.id}/mode`, { mode });
    local.items = local.items.filter((other) => other.id !== item.id || changed.mode !== "bot").map((other) => (other.id === item.id ? { ...other, ...changed } : other));
  });
}

export function People({ state, attempt, redraw }) {
  const counts = state.snapshot?.conversations ?? {};
  if (state.stale || !MODES.some((mode) => counts[mode])) return null;
  load(counts, redraw).catch((problem) => {
    if (problem.status === undefined) throw problem;
    local.key = ""; // tried again with the next frame
  });
  return html`<section class="panel" aria-labelledby="people-title">
    <h2 id="people-title">${t("people.title")}</h2>
    <div class="scroll" tabindex="0" role="region" aria-labelledby="people-title"><table>
      <thead><tr>${["since", "phone", "mode", "unread", "hand"].map((name) => html`<th scope="col" key=${name}>${t(`people.${name}`)}</th>`)}</tr></thead>
      <tbody>${local.items.map((item) => html`<tr key=${item.id}>
        <td>${dateTime(item.since)}</td><td>${item.phone ?? "–"}</td><td>${t(`people.mode.${item.mode}`)}</td><td>${item.unread}</td>
        <td class="buttons">${item.mode === "pending_human" && html`<button type="button" onClick=${() => hand(item, "human", attempt)}>${t("people.take")}</button>`}
          <button type="button" onClick=${() => hand(item, "bot", attempt)}>${t("people.give")}</button></td>
      </tr>`)}</tbody>
    </table></div>
  </section>`;
}
