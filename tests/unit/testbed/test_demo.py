"""Needs nothing: what the demo says at its end, and what it says when a step fails."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed import demo
from testbed.api import Api, ApiError
from testbed.command import command_line
from testbed.errors import Failed
from testbed.images import ImageStore
from testbed.progress import Progress
from testbed.settings import Settings

TABLE = "NAMESPACE      NAME         READY   REASON\nchatbot-demo   quickstart   True    AllReady\n"
KUBECTL = f"""#!/bin/sh
case "$*" in
  *"get chatbot --all-namespaces"*) printf '%s' '{TABLE}' ;;
  *) echo "answer to: $*" ;;
esac
"""


class FakeApi:
    """Answers the two reads of the summary."""

    def get(self, path: str, **_: str) -> dict[str, Any]:
        if "/services/" in path:
            return {"spec": {"clusterIP": "10.96.7.8"}}
        return {"status": {"endpoints": {"adminPasswordSecret": "quickstart-auth/admin.password"}}}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setattr(demo, "binary", lambda *_: tmp_path / "kubectl")
    monkeypatch.setattr(Api, "from_settings", lambda _: FakeApi())
    chosen = Settings(directory=tmp_path / "run", cache=tmp_path / "cache", port_base=16440)
    chosen.log.mkdir(parents=True)
    return chosen


def test_the_summary_names_table_address_secret_and_three_commands(settings: Settings) -> None:
    text = demo.Demo(settings, Progress(quiet=True)).summary()
    assert TABLE.strip() in text
    assert "http://10.96.7.8:8003/ui/index.html" in text
    assert "get secret quickstart-auth -o jsonpath='{.data.admin\\.password}' | base64 -d" in text
    following = text.partition("Try next")[2].splitlines()[1:]
    commands = following[: following.index("")]
    assert len(commands) == 3
    assert commands[0] == f'  eval "$({command_line(f"--dir {settings.directory} env")})"'
    assert [line.split()[0] for line in commands[1:]] == ["kubectl", "kubectl"]
    assert "kubectl -n" not in text.partition(commands[0])[0]  # nothing needs kubectl before the line that provides it


def test_the_command_line_names_an_interpreter_that_has_the_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interpreter = re.fullmatch(r"(\S+) -m testbed", command_line())
    assert interpreter is not None
    subprocess.run([interpreter[1], "-c", "import yaml, testbed"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    assert command_line("down") == f"{tmp_path}/.venv/bin/python -m testbed down"
    monkeypatch.chdir(tmp_path)
    assert command_line("down") == ".venv/bin/python -m testbed down"


def test_a_failed_step_ends_with_its_cause_and_the_file_that_explains_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ImageStore) -> list[Any]:
        raise Failed("The disk is full.")

    monkeypatch.setattr(ImageStore, "ensure", fail)
    with pytest.raises(Failed) as failed:
        demo.run(settings, Progress(quiet=True))
    cause, _, path = str(failed.value).partition("\nConditions, events and logs: ")
    assert cause == "The disk is full."
    explained = Path(path).read_text()
    assert Path(path).parent == settings.log
    assert "$ kubectl get chatbotinstance quickstart -n chatbot-demo -o yaml\nanswer to: " in explained
    assert "$ kubectl get events -n chatbot-demo" in explained
    assert "$ kubectl logs -n chatbot-operator deployment/chatbot-operator" in explained


@pytest.mark.parametrize("error", [ApiError(503, "etcd is away"), ConnectionRefusedError("etcd is away")])
def test_an_api_server_that_is_away_in_the_middle_is_a_failed_step(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: demo.Demo) -> list[Any]:
        raise error

    monkeypatch.setattr(demo.Demo, "load_images", fail)
    with pytest.raises(Failed, match=r"etcd is away\nConditions, events and logs: "):
        demo.run(settings, Progress(quiet=True))


def test_a_question_without_an_answer_does_not_hide_the_others(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = settings.directory.parent / "kubectl"
    kubectl.write_text('#!/bin/sh\ncase "$*" in *logs*) exec sleep 60 ;; *) echo "answer to: $*" ;; esac\n')
    monkeypatch.setattr(demo, "_QUESTION_S", 0.5)
    explained = demo.Demo(settings, Progress(quiet=True)).explain_failure().read_text()
    assert "$ kubectl get pods,jobs,persistentvolumeclaims" in explained
    assert explained.count("answer to: ") == 4
    assert explained.count("timed out after 0.5 seconds") == 2


def test_the_cause_is_said_even_if_nothing_can_be_written(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ImageStore) -> list[Any]:
        raise Failed("The disk is full.")

    monkeypatch.setattr(ImageStore, "ensure", fail)
    settings.log.rmdir()
    with pytest.raises(Failed, match=r"^The disk is full\.\n.*No such file or directory"):
        demo.run(settings, Progress(quiet=True))
