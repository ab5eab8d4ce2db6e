"""What the demo says and shows is tried as a person would: its conversation, and every address and command of its summary."""

import os
import re
import subprocess
from urllib.parse import urlsplit

import pytest

from testbed.demo import GREETING, Demo
from testbed.demoprovider import CUSTOMER
from tests.support.cluster import ROOT
from tests.support.site import APP_PORT, Site


def run(script: str) -> str:
    """Run lines in a shell at the top of the checkout, where the summary is printed, and return their output."""
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def summary(site: Site, demo: Demo) -> str:
    """What the demo prints at its end."""
    return demo.summary()


@pytest.fixture
def kubectl(summary: str) -> str:
    """The line of the summary that gives kubectl of this cluster."""
    [line] = [line for line in summary.splitlines() if "eval " in line]
    return line.strip()


def test_it_waits_converses_and_shows_both_sides(site: Site, demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    demo.wait_ready()
    demo.converse()
    shown = capsys.readouterr().err
    assert "AllReady" in shown
    assert f"{CUSTOMER} -> chatbot: {GREETING}" in shown
    [answer] = re.findall(rf"chatbot -> {CUSTOMER}: (\S.*)", shown)
    assert len(answer) > 3
    assert answer != "None"


def test_it_backs_up_and_shows_the_proof_also_the_second_time(site: Site, demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        demo.back_up()
        shown = capsys.readouterr().err
        assert re.search(r"before-friday: \d+ bytes, encrypted; ReadCompletely: .*; [1-9]\d* rows", shown)
    assert "before-friday" in demo.summary()


def test_the_summary_shows_the_table_and_an_address_that_answers(site: Site, summary: str) -> None:
    # With more than one kind to show, kubectl puts the kind before each name.
    assert re.search(rf"^{site.namespace} +(chatbotinstance\S*/)?{site.name} +True +AllReady", summary, re.MULTILINE)
    [address] = re.findall(r"http://\S+/ui/index.html", summary)
    status, page = site.http("GET", urlsplit(address).path)
    assert urlsplit(address).netloc == f"{site.address}:{APP_PORT}"
    assert status == 200
    assert b"<html" in page.lower()


def test_the_password_command_of_the_summary_prints_the_password(site: Site, summary: str, kubectl: str) -> None:
    [command] = re.findall(r"Its password +(kubectl .*)", summary)
    secret, _, key = site.instance()["status"]["endpoints"]["adminPasswordSecret"].partition("/")
    assert run(f"{kubectl}\n{command}") == site.secret(secret)[key]


def test_the_commands_to_try_do_what_they_say(site: Site, summary: str, kubectl: str) -> None:
    delete, hibernate = (line.strip() for line in summary.splitlines() if line.startswith("  kubectl "))
    old = site.pods(component="app")
    run(f"{kubectl}\n{delete}")
    site.wait("the Deployment to come back", lambda: site.pods(component="app").keys() - old.keys())
    site.wait_ready()
    dry = hibernate.replace(" patch ", " patch --dry-run=server ")
    assert "patched" in run(f"{kubectl}\n{dry}")
