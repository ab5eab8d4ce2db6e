"""Both pages in a real browser: no console error with the database up and down, in Spanish and English; keyboard, contrast, narrow screens.

Axe-core is not used: our own checks of contrast, accessible names and the keyboard stand in for it.
Needs Chromium, PostgreSQL and Redis.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import expect

from tests.browser.conftest import PLAIN_HOST, Tab
from tests.component.conftest import ADMIN_PASSWORD
from tests.component.running import RuntimeProcess
from tests.component.servers import Database, Postgres, Redis

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenTab = Callable[..., Awaitable[Tab]]

INDEX = "/ui/index.html"
DASHBOARD = "/ui/realtime_dashboard.html"
WORDS = {
    "es": {"ok": "bien", "down": "sin servicio", "all": "Todo funciona", "database": "Base de datos", "waiting": "En espera"},
    "en": {"ok": "ok", "down": "down", "all": "Everything works", "database": "Database", "waiting": "Waiting"},
}


async def log_in(tab: Tab, app: RuntimeProcess) -> None:
    await tab.page.goto(app.url + INDEX)
    await tab.page.fill("#username", "admin")
    await tab.page.fill("#password", ADMIN_PASSWORD)
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("#send-title")


@pytest.mark.parametrize(("language", "theme"), [("es", "light"), ("en", "dark")])
async def test_pages_load_and_show_that_all_is_well(app: RuntimeProcess, open_tab: OpenTab, language: str, theme: str) -> None:
    tab = await open_tab(language=language, theme=theme)
    for path in (INDEX, DASHBOARD):
        await tab.page.goto(app.url + path)
        await tab.page.get_by_role("status").filter(has_text=WORDS[language]["all"]).wait_for()
        assert await tab.page.locator(".verdict.ok").count() == 6
        assert await tab.page.locator("html").get_attribute("lang") == language
        await tab.screenshot(f"up-{path.split('/')[-1]}-{language}-{theme}")


@pytest.mark.parametrize("language", ["es", "en"])
async def test_pages_load_and_say_so_when_the_database_is_down(
    app: RuntimeProcess, open_tab: OpenTab, outage: Postgres, language: str
) -> None:
    await asyncio.to_thread(outage.stop)
    tab = await open_tab(language=language)
    words = WORDS[language]
    for path in (INDEX, DASHBOARD):
        await tab.page.goto(app.url + path)
        verdict = tab.page.locator(".verdict.down")
        await verdict.wait_for()
        assert words["database"] in await verdict.inner_text()
        assert words["down"] in await verdict.inner_text()
        assert await tab.page.locator(".advice.down").count() == 1
        assert await tab.page.locator(".verdict.unknown").count() == 3, "what lies in the database is neither well nor ill but not known"
        await tab.screenshot(f"down-{path.split('/')[-1]}-{language}")
    await asyncio.to_thread(outage.start)
    await tab.page.get_by_role("status").filter(has_text=words["all"]).wait_for()


async def test_logged_in_numbers_are_live_and_turn_stale_in_an_outage(
    app: RuntimeProcess, open_tab: OpenTab, database: Database, outage: Postgres
) -> None:
    tab = await open_tab()
    await log_in(tab, app)
    await tab.page.fill("#to", "5215512345678")
    await tab.page.fill("#text", "hola")
    await tab.page.locator("#text").press("Tab")
    await tab.page.keyboard.press("Enter")
    await tab.page.locator(".notice.good").wait_for()
    await tab.page.get_by_role("cell", name="message.send").wait_for()  # runbook section 9: the audit event is visible
    assert database.sql("SELECT body FROM messages") == ["hola"]
    await tab.page.goto(app.url + DASHBOARD)
    await tab.page.get_by_text("Live").wait_for()
    figure = tab.page.locator(".figure", has_text="Waiting")
    await expect(figure.locator("dd").first).to_have_text("1")
    await tab.screenshot("dashboard-live")
    await asyncio.to_thread(outage.stop)
    await tab.page.locator(".verdict.down").wait_for()
    await tab.page.get_by_text("nothing newer arrives").wait_for(timeout=40_000)
    await expect(figure.locator("dd").first).to_have_text("1")  # old numbers stay, marked as old
    await tab.screenshot("dashboard-stale")
    await asyncio.to_thread(outage.start)
    await tab.page.get_by_text("Live").wait_for(timeout=60_000)
    # Tickets can't be had during the outage; the browser reports those answers as errors, and they are the only ones.
    tab.complaints[:] = [text for text in tab.complaints if "503" not in text]


async def test_messages_are_sent_also_over_plain_http(app: RuntimeProcess, open_tab: OpenTab, database: Database) -> None:
    """On another host than localhost, where browsers give pages only a part of `crypto`."""
    tab = await open_tab()
    await tab.page.goto(f"http://{PLAIN_HOST}:{app.port}{INDEX}")
    assert not await tab.page.evaluate("isSecureContext")
    await tab.page.fill("#username", "admin")
    await tab.page.fill("#password", ADMIN_PASSWORD)
    await tab.page.keyboard.press("Enter")
    for number in ("5215512345678", "5215512345679"):
        await tab.page.fill("#to", number)
        await tab.page.fill("#text", f"hola {number}")
        await tab.page.get_by_role("button", name="Send").click()
        await expect(tab.page.locator("#to")).to_have_value("")  # accepted, so the form is empty for the next one
    assert len(database.sql("SELECT DISTINCT idempotency_key FROM messages")) == 2
    # The browser says that it ignores a header which only TLS makes sense of.
    tab.complaints[:] = [text for text in tab.complaints if "Cross-Origin-Opener-Policy" not in text]


async def test_redis_down_is_degraded_with_advice(app: RuntimeProcess, open_tab: OpenTab, redis_outage: Redis) -> None:
    await asyncio.to_thread(redis_outage.stop)
    tab = await open_tab(language="es")
    await tab.page.goto(app.url + DASHBOARD)
    advice = tab.page.locator(".advice.degraded")
    await advice.wait_for()
    assert "Redis" in await advice.inner_text()
    assert "Qué hacer" in await advice.inner_text()


async def test_a_wrong_password_is_said_in_words_and_the_form_stays(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab(language="es")
    await tab.page.goto(app.url + INDEX)
    await tab.page.fill("#username", "admin")
    await tab.page.fill("#password", "not-the-password")
    await tab.page.keyboard.press("Enter")
    alert = tab.page.get_by_role("alert")
    await alert.wait_for()
    assert "no es correcto" in await alert.inner_text()
    assert await tab.page.input_value("#username") == "admin"
    tab.complaints[:] = [text for text in tab.complaints if "401" not in text]


async def test_the_audit_trail_shows_the_login_and_log_out_ends_it(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab()
    await log_in(tab, app)
    await tab.page.get_by_role("cell", name="session.open").first.wait_for()
    await tab.page.get_by_role("button", name="Log out (admin)").click()
    await tab.page.locator("#username").wait_for()
    assert await tab.page.locator("table").count() == 0


async def test_the_language_and_the_theme_can_be_changed_and_are_kept(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab(language="en")
    await tab.page.goto(app.url + INDEX)
    await tab.page.get_by_role("button", name="Español").click()
    await tab.page.get_by_role("heading", name="Inicio").wait_for()
    await tab.page.get_by_role("button", name="Tema: automático").click()
    await tab.page.get_by_role("button", name="Tema: claro").click()
    await tab.page.goto(app.url + DASHBOARD)
    await tab.page.get_by_role("heading", name="Panel en tiempo real").wait_for()
    assert await tab.page.locator("html").get_attribute("data-theme") == "dark"


async def test_the_api_reference_needs_no_other_site(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab()
    hosts: set[str] = set()
    tab.page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    await tab.page.goto(app.url + "/docs")
    await tab.page.locator(".operation", has_text="/api/messages").first.wait_for()
    assert hosts == {app.url.removeprefix("http://")}
    await tab.screenshot("docs")


async def test_the_keyboard_reaches_everything_and_the_focus_is_seen(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab()
    await tab.page.goto(app.url + INDEX)
    await tab.page.locator("#username").wait_for()
    reached = []
    for _ in range(12):
        await tab.page.keyboard.press("Tab")
        focus = await tab.page.evaluate(
            """() => { const at = document.activeElement;
                       return {name: at.innerText || at.id, outline: getComputedStyle(at).outlineWidth}; }"""
        )
        reached.append(focus["name"])
        if focus["name"] == "Log in":
            break
        assert focus["outline"] != "0px", focus
    assert reached[0] == "Skip to content"
    assert {"Home", "Realtime dashboard", "Español", "username", "password", "Log in"} <= set(reached)


async def test_a_screen_of_320_pixels_needs_no_sideways_scrolling(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab(width=320)
    await log_in(tab, app)
    for path in (INDEX, DASHBOARD, "/docs"):
        await tab.page.goto(app.url + path)
        await tab.page.locator(".verdict, .operation").first.wait_for()
        overflow = await tab.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, path
        await tab.screenshot(f"narrow-{path.split('/')[-1]}")


CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const backdrop = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("noscript, .skip, svg")) continue;
    const style = getComputedStyle(element);
    const [light, dark] = [luminance(rgb(style.color)), luminance(backdrop(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_all_text_has_enough_contrast_also_in_an_outage(
    app: RuntimeProcess, open_tab: OpenTab, outage: Postgres, redis_outage: Redis, theme: str
) -> None:
    tab = await open_tab(theme=theme)
    await log_in(tab, app)
    assert await tab.page.evaluate(CONTRAST) == []
    await tab.page.get_by_role("button", name="Log out").click()
    await tab.page.locator("#username").wait_for()
    await asyncio.to_thread(outage.stop)
    await asyncio.to_thread(redis_outage.stop)
    await tab.page.locator(".verdict.down").wait_for()
    await tab.page.locator(".verdict.degraded").wait_for()
    assert await tab.page.evaluate(CONTRAST) == []
    await tab.screenshot(f"outage-{theme}")


async def test_every_control_has_a_name_and_every_region_a_heading(app: RuntimeProcess, open_tab: OpenTab) -> None:
    tab = await open_tab()
    await log_in(tab, app)
    nameless = await tab.page.evaluate(
        """() => [...document.querySelectorAll("input, textarea, button, a")].filter((element) =>
          !(element.innerText || element.labels?.length || element.getAttribute("aria-label"))).map((element) => element.outerHTML)"""
    )
    assert nameless == []
    assert await tab.page.locator("h1").count() == 1
    assert await tab.page.locator("[aria-live=polite]").count() >= 1
    unlabelled = await tab.page.evaluate(
        """() => [...document.querySelectorAll("[aria-labelledby]")].filter((element) =>
          !document.getElementById(element.getAttribute("aria-labelledby"))).map((element) => element.outerHTML.slice(0, 80))"""
    )
    assert unlabelled == []


async def test_a_held_message_is_decided_by_a_person(app: RuntimeProcess, open_tab: OpenTab, database: Database) -> None:
    tab = await open_tab(language="es")
    await log_in(tab, app)
    await tab.page.fill("#to", "5215512345678")
    await tab.page.fill("#text", "¿Llegó <b>esto</b>?")
    await tab.page.get_by_role("button", name="Enviar").click()
    await tab.page.locator(".notice.good").wait_for()
    database.sql("UPDATE outbox SET state = 'held', reason = 'no answer from the provider'; UPDATE messages SET status = 'held'")
    row = tab.page.get_by_role("row", name="¿Llegó <b>esto</b>?")
    await row.wait_for()
    await tab.screenshot("decisions")
    await row.get_by_role("button", name="Sí llegó").click()
    await row.wait_for(state="detached")
    assert database.sql("SELECT status FROM messages") == ["sent"]


async def test_a_conversation_that_a_person_took_over_is_given_back(app: RuntimeProcess, open_tab: OpenTab, database: Database) -> None:
    tab = await open_tab(language="es")
    await log_in(tab, app)
    await expect(tab.page.get_by_text("lleve 12 h sin escribir")).to_be_visible()
    await tab.page.fill("#to", "5215512345678")
    await tab.page.fill("#text", "Hola")
    await tab.page.get_by_role("button", name="Enviar").click()
    row = tab.page.get_by_role("row", name="5215512345678")
    await expect(row).to_contain_text("con una persona")
    await tab.screenshot("people")
    await row.get_by_role("button", name="Devolver al bot").click()
    await row.wait_for(state="detached")
    assert database.sql("SELECT mode FROM conversations") == ["bot"]
    await tab.page.get_by_role("cell", name="conversation.mode").wait_for()
