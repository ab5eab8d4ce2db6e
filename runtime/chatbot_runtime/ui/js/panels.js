// Panels with real numbers: queue, traffic, and the notice that says how fresh they are.
import { html } from "./html.js";
import { clock, duration, number, t } from "./i18n.js";

const ATTENTION = { unknown: "todo.unknown", held: "todo.held", dead: "todo.dead" };

export function Freshness({ state }) {
  if (state.me === null) return null;
  if (state.me === undefined) return html`<p class="notice" role="status">${t(state.api.status === "ok" ? "fresh.session" : "fresh.connecting")}</p>`;
  if (!state.snapshot) return html`<p class="notice" role="status">${t("fresh.waiting")}</p>`;
  if (state.stale) return html`<p class="notice bad" role="status">${t("fresh.stale", { time: clock(state.snapshotAt) })}</p>`;
  return html`<p class="notice quiet">${t(`fresh.${state.transport}`, { time: clock(state.snapshotAt) })}</p>`;
}

function Figure({ label, value, detail, alarming }) {
  return html`<div class="figure ${alarming ? "alarming" : ""}"><dt>${label}</dt><dd>${value}</dd>${detail && html`<dd class="detail">${detail}</dd>`}</div>`;
}

export function Queue({ state }) {
  const queue = state.snapshot?.queue;
  if (!queue) return null;
  const people = state.snapshot.conversations;
  const states = Object.entries(queue.states).filter(([name]) => name in ATTENTION);
  return html`<section class="panel ${state.stale ? "stale" : ""}" aria-labelledby="queue-title">
    <h2 id="queue-title">${t("queue.title")}</h2>
    <dl class="figures">
      <${Figure} label=${t("queue.depth")} value=${number(queue.pending)} detail=${t("queue.limit", { limit: number(queue.depthLimit) })} alarming=${queue.pending > queue.depthLimit} />
      <${Figure} label=${t("queue.age")} value=${queue.oldestAgeSeconds === null ? "–" : duration(queue.oldestAgeSeconds)} detail=${t("queue.age.limit", { limit: duration(queue.ageLimitSeconds) })} alarming=${queue.oldestAgeSeconds > queue.ageLimitSeconds} />
      <${Figure} label=${t("queue.inbox")} value=${number(queue.inboxPending)} detail=${queue.inboxOldestAgeSeconds === null ? null : t("queue.inbox.age", { age: duration(queue.inboxOldestAgeSeconds) })} />
      ${people && html`<${Figure} label=${t("queue.people")} value=${number(people.pending_human)} detail=${t("queue.people.have", { count: number(people.human) })} />`}
    </dl>
    ${states.some(([, count]) => count > 0) && html`<ul class="attention">
      ${states.filter(([, count]) => count > 0).map(([name, count]) => html`<li key=${name}><strong>${t(`state.${name}`)}: ${number(count)}.</strong> ${t(ATTENTION[name])}</li>`)}
    </ul>`}
  </section>`;
}

export function Traffic({ state }) {
  const traffic = state.snapshot?.traffic;
  if (!traffic) return null;
  return html`<section class="panel ${state.stale ? "stale" : ""}" aria-labelledby="traffic-title">
    <h2 id="traffic-title">${t("traffic.title", { window: duration(traffic.windowSeconds) })}</h2>
    <dl class="figures">
      <${Figure} label=${t("traffic.received")} value=${number(traffic.received)} />
      <${Figure} label=${t("traffic.sent")} value=${number(traffic.sent)} />
      <${Figure} label=${t("traffic.failed")} value=${number(traffic.failed)} alarming=${traffic.failed > 0} />
    </dl>
  </section>`;
}

function said(channel) {
  if (channel.paused) return t("channels.paused", { reason: channel.pauseReason });
  return t(channel.worker === false ? "channels.unattended" : "channels.active");
}

export function Channels({ state }) {
  const channels = state.snapshot?.channels;
  if (!channels) return null;
  return html`<section class="panel ${state.stale ? "stale" : ""}" aria-labelledby="channels-title">
    <h2 id="channels-title">${t("channels.title")}</h2>
    ${channels.length === 0 ? html`<p>${t("channels.none")}</p>` : html`<div class="scroll" tabindex="0" role="region" aria-labelledby="channels-title"><table>
      <thead><tr><th scope="col">${t("channels.name")}</th><th scope="col">${t("channels.kind")}</th><th scope="col">${t("channels.state")}</th></tr></thead>
      <tbody>${channels.map((channel) => html`<tr key=${channel.id}>
        <th scope="row">${channel.id}</th><td>${t(`channel.${channel.kind}`)}</td>
        <td>${said(channel)}</td></tr>`)}</tbody>
    </table></div>`}
  </section>`;
}
