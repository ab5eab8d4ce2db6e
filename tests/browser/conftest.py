"""Chromium, and an app process with its stores. Needs Chromium (apt-get install chromium), PostgreSQL and Redis."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

from tests.component.conftest import (  # noqa: F401  fixtures
    database,
    outage,
    postgres,
    redis,
    redis_outage,
    runtime_env,
    settings,
    template,
)
from tests.component.running import RuntimeProcess, start_fixture  # noqa: F401  a fixture

PLAIN_HOST = "bot.test"
"""Leads to this machine too, but the browser does not trust it as it trusts localhost."""


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser's program; a machine without one is told what to install, as a skipped browser test proves nothing."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no Chromium on this machine: apt-get install chromium")
    return Path(found)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # The sandbox needs user namespaces, which test machines often lack; only pages of our own are opened.
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1"]
        launched = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        await launched.close()


@pytest.fixture
def app(start: Callable[..., RuntimeProcess]) -> RuntimeProcess:
    return start("app", INSTANCE_NAME="demo").wait_ready()


@dataclass
class Tab:
    """A page, and everything it complained about."""

    page: Page
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    async def screenshot(self, name: str) -> None:
        """Keep a picture when SCREENSHOTS names a directory."""
        if folder := os.environ.get("SCREENSHOTS"):
            await self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest_asyncio.fixture(loop_scope="session")
async def open_tab(browser: Browser) -> AsyncIterator[Callable[..., Awaitable[Tab]]]:
    """A function that opens a tab; at the end every tab must be without console errors and uncaught exceptions."""
    tabs: list[Tab] = []

    async def open_one(*, language: str = "en", theme: str = "light", width: int = 1280) -> Tab:
        scheme = "dark" if theme == "dark" else "light"
        context = await browser.new_context(
            locale=language, color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
        )
        tab = Tab(await context.new_page(), context)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                tab.complaints.append(f"{message.type}: {message.text}")

        tab.page.on("console", on_console)
        tab.page.on("pageerror", lambda error: tab.complaints.append(f"uncaught: {error}"))

        def on_failure(request: Request) -> None:
            if request.failure != "net::ERR_ABORTED":  # the test went to another page while something was loading
                tab.complaints.append(f"failed: {request.url} {request.failure}")

        tab.page.on("requestfailed", on_failure)
        tabs.append(tab)
        return tab

    yield open_one
    for tab in tabs:
        await tab.context.close()
    complaints = [complaint for tab in tabs for complaint in tab.complaints]
    assert complaints == []
