// realtime_dashboard.html: verdicts first, then numbers that move. Loads and says so when the database is down.
import { post } from "./api.js";
import { html } from "./html.js";
import { t } from "./i18n.js";
import { refresh } from "./live.js";
import { Channels, Freshness, Queue, Traffic } from "./panels.js";
import { run, Shell } from "./shell.js";
import { Verdicts } from "./verdicts.js";

async function logOut() {
  try {
    await post("/api/auth/logout");
  } finally {
    await refresh();
  }
}

run("page.dashboard", (state, rerender) => html`<${Shell} page="page.dashboard" state=${state} rerender=${rerender} onLogOut=${logOut}>
  <${Verdicts} state=${state} />
  <${Freshness} state=${state} />
  ${state.me === null && html`<p class="notice">${t("dashboard.login")} <a href="/ui/index.html">${t("dashboard.login.link")}</a></p>`}
  <div class="columns"><${Queue} state=${state} /><${Traffic} state=${state} /></div>
  <${Channels} state=${state} />
<//>`);
