// What both pages share: header, language, theme, navigation, and the page's start.
import { html, render } from "./html.js";
import { currentLanguage, loadTexts, otherLanguage, t } from "./i18n.js";
import { start } from "./live.js";

const THEMES = ["auto", "light", "dark"];

function storedTheme() {
  try {
    return localStorage.getItem("theme") ?? "auto";
  } catch {
    return "auto";
  }
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // not remembered, and that is all
  }
}

const PAGES = [
  ["index.html", "page.home"],
  ["realtime_dashboard.html", "page.dashboard"],
  ["/docs", "page.docs"],
];

export function Shell({ page, state, rerender, onLogOut, children }) {
  const theme = document.documentElement.dataset.theme;
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  const instance = state?.health?.instance;
  return html`<a class="skip" href="#main">${t("skip")}</a>
    <header>
      <p class="brand"><img src="/ui/icon.svg" alt="" width="28" height="28" /> ${instance ?? t("brand")}</p>
      <nav aria-label=${t("nav")}>
        ${PAGES.map(([href, key]) => html`<a key=${href} href=${href.startsWith("/") ? href : `/ui/${href}`} aria-current=${key === page ? "page" : undefined}>${t(key)}</a>`)}
      </nav>
      <div class="tools">
        <button type="button" onClick=${() => { applyTheme(next); rerender(); }}>${t("theme", { theme: t(`theme.${theme}`) })}</button>
        <button type="button" lang=${otherLanguage()} onClick=${async () => { await loadTexts(otherLanguage()); rerender(); }}>${t("language")}</button>
        ${state?.me && html`<button type="button" onClick=${onLogOut}>${t("logout", { name: state.me.username })}</button>`}
      </div>
    </header>
    <main id="main" tabindex="-1" lang=${currentLanguage()}>
      <h1>${t(page)}</h1>
      ${children}
    </main>
    ${state?.health && html`<footer>${t("footer", { version: state.health.version })}</footer>`}`;
}

// Loads texts, draws `page(state, rerender)` and draws again whenever something changes.
export async function run(page, draw, { live = true } = {}) {
  applyTheme(storedTheme());
  await loadTexts();
  let state = { api: { status: "unknown", since: null }, health: null, me: undefined, snapshot: null, snapshotAt: null, transport: "none" };
  const root = document.getElementById("root");
  const rerender = () => {
    document.title = state.health ? `${t(page)} · ${state.health.instance}` : t(page);
    render(draw(state, rerender), root);
  };
  rerender();
  if (live) await start((now) => { state = now; rerender(); });
}
