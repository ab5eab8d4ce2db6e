"""The command line: `python -m testbed up|down|status|build|images|demo|demo-down|env`."""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed import demo, netns, node, packages, plane, sim
from testbed.api import Api
from testbed.cache import locked, require_access
from testbed.command import command_line
from testbed.errors import MISHAPS, Failed, Refused, TestbedError, describe
from testbed.images import PROJECT_IMAGES, ImageStore
from testbed.plane import Site
from testbed.processes import Processes
from testbed.progress import Progress
from testbed.settings import Settings
from testbed.tools import TOOLS, binary, search_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 when it failed on the way (or `status` finds something not running); 2 when it was refused before anything was changed.
    """
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env(options.dir)
        require_access(settings.directory)
        return _execute(settings, options)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"testbed: interrupted; `{command_line('down')}` cleans up.", file=sys.stderr)
        return 130


def _execute(settings: Settings, options: argparse.Namespace) -> int:
    """Run the chosen command.

    Raises:
        Failed: it failed on the way, by whatever cause; the message ends with the directory of the logs, if there are any.
    """
    try:
        code: int = options.command(settings, options)
    except (Failed, *MISHAPS) as error:
        logs = f"\nLogs: {settings.log}" if settings.log.exists() else ""
        raise Failed(f"{describe(error)}{logs}") from error
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=command_line(), description="A real Kubernetes on this machine, for the demo and for tests.")
    parser.add_argument("--dir", type=Path, help="work directory of this test bed (default $TESTBED_DIR or ~/.cache/chatbot-testbed/run)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start it; cleans up after a crash first; does nothing when it already runs")
    kind = up.add_mutually_exclusive_group()
    kind.add_argument("--node", action="store_true", help="with a real node: containerd, kubelet, kube-proxy, CoreDNS (needs root)")
    kind.add_argument("--sim", type=int, metavar="N", default=0, help="with N simulated nodes, whose pods get ready without running")
    up.set_defaults(command=_up)

    commands.add_parser("down", help="stop it and remove its state; logs stay").set_defaults(command=_down)
    commands.add_parser("status", help="show what runs; ends with 1 if something does not").set_defaults(command=_status)

    build = commands.add_parser("build", help="build programs into the cache")
    build.add_argument("tools", nargs="*", metavar="TOOL", help=f"default: all of {', '.join(TOOLS)}")
    build.set_defaults(command=_build)

    images = commands.add_parser("images", help="build the container images, print the archives, load them into a node that runs here")
    images.add_argument("images", nargs="*", metavar="IMAGE", help=f"default: all of {', '.join(PROJECT_IMAGES)}")
    images.set_defaults(command=_images)

    whole = "from nothing to a chatbot that answers a WhatsApp message; `demo-down` removes it"
    commands.add_parser("demo", help=whole).set_defaults(command=_demo, node=True, sim=0)
    commands.add_parser("demo-down", help="the same as `down`").set_defaults(command=_down)

    commands.add_parser("env", help=f'print shell exports: eval "$({command_line("env")})"').set_defaults(command=_env)
    return parser


def _up(settings: Settings, options: argparse.Namespace) -> int:
    progress = Progress()
    if options.sim < 0:
        raise Refused("--sim needs a positive number of nodes.")
    mode = "node" if options.node else "sim" if options.sim else "plane"
    if mode == "node":
        node.require_root()
    with locked(settings.directory / "lock"):
        found = plane.load_site(settings)
        if found is not None and _healthy(found[1]):
            site, running = found
            if (site.mode, site.simulated_nodes) != (mode, options.sim):
                raise Refused(
                    f"Another kind of test bed ({site.mode}) runs in {settings.directory}; run `down` first or choose another --dir."
                )
            progress.say(f"already running at {site.server(running)}")
            return 0
        if found is not None or settings.pids.exists():
            with progress.step("remove what an earlier run left"):
                _stop(settings if found is None else found[1])
        site = _start(settings, mode, options.sim, progress)
    progress.say(f'ready at {site.server(settings)}; use it with: eval "$({command_line(f"--dir {settings.directory} env")})"')
    return 0


def _start(settings: Settings, mode: str, simulated_nodes: int, progress: Progress) -> Site:
    """Check everything, then start everything; what a failure or Ctrl-C leaves half-way is stopped again, its logs stay."""
    if mode == "node":
        return _start_node(settings, progress)
    plane.check(settings)
    with contextlib.ExitStack() as undo:
        undo.callback(plane.stop, settings)
        site = Site(mode=mode, simulated_nodes=simulated_nodes)
        plane.start(settings, site, progress)
        if simulated_nodes:
            sim.up(settings, site, progress)
        undo.pop_all()
    return site


def _start_node(settings: Settings, progress: Progress) -> Site:
    node.check(settings)
    plane.check(settings, own_namespace=True)
    with contextlib.ExitStack() as undo:
        undo.callback(_stop_node, settings)
        network = netns.ensure(settings)
        site = Site(network.address, tuple(network.prefix), "node")
        plane.start(settings, site, progress)
        node.up(settings, network, progress)
        undo.pop_all()
    return site


def _stop(settings: Settings) -> None:
    found = plane.load_site(settings)
    if found is not None and found[0].mode == "node":
        _stop_node(settings)
    else:
        plane.stop(settings)


def _stop_node(settings: Settings) -> None:
    node.down(settings)
    plane.stop(settings)
    netns.remove(settings)


def _down(settings: Settings, _: argparse.Namespace) -> int:
    progress = Progress()
    if not settings.directory.exists():
        progress.say(f"no test bed in {settings.directory}")
        return 0
    with locked(settings.directory / "lock"):
        found = plane.load_site(settings)
        with progress.step(f"stop the test bed in {settings.directory}"):
            _stop(settings if found is None else found[1])
    return 0


def _healthy(settings: Settings) -> bool:
    processes = Processes(settings)
    names = processes.names()
    complete = set(plane.COMPONENTS) <= set(names) and all(processes.alive(name) for name in names)
    return complete and Api.from_settings(settings).ready()


def _status(settings: Settings, _: argparse.Namespace) -> int:
    found = plane.load_site(settings)
    if found is None:
        print(f"no test bed in {settings.directory}")
        return 1
    site, running = found
    processes = Processes(running)
    print(f"{site.mode} in {settings.directory}, API server {site.server(running)}")
    for name in processes.names():
        record = processes.record(name)
        alive = record is not None and record.alive()
        print(f"  {name:28} {'running' if alive else 'NOT RUNNING':12} pid {record.pid if record else '?'}")
    return 0 if _healthy(running) else 1


def _build(settings: Settings, options: argparse.Namespace) -> int:
    progress = Progress()
    for name in options.tools or TOOLS:
        print(binary(settings, name, progress))
    return 0


def _images(settings: Settings, options: argparse.Namespace) -> int:
    chosen = options.images or PROJECT_IMAGES
    if unknown := sorted(set(chosen) - set(PROJECT_IMAGES)):
        raise Refused(f"There is no image {', '.join(unknown)}; there are {', '.join(PROJECT_IMAGES)}.")
    progress = Progress()
    packages.ensure(packages.IMAGE_PROGRAMS, progress.say)
    store = ImageStore(settings.cache, progress.say)
    images = store.ensure(chosen)
    for image in images:
        print(f"{image.name} {image.content_name} {image.manifest}")
    if node.runs(settings):
        for name in node.load_images(settings, store, images):
            progress.say(f"loaded {name} into the node")
    return 0


def _demo(settings: Settings, options: argparse.Namespace) -> int:
    progress = Progress()
    with progress.step("cluster with one real node"):
        _up(settings, options)
    found = plane.load_site(settings)
    demo.run(settings if found is None else found[1], progress)
    return 0


def _env(settings: Settings, _: argparse.Namespace) -> int:
    found = plane.load_site(settings)
    if found is None:
        raise Refused(f"There is no test bed in {settings.directory}; start one with `{command_line('up')}`.")
    path = os.pathsep.join([*map(str, search_path(settings)), os.environ.get("PATH", os.defpath)])
    print(f"export KUBECONFIG={shlex.quote(str(settings.kubeconfig('admin')))}")
    print(f"export TESTBED_DIR={shlex.quote(str(settings.directory))}")
    print(f"export PATH={shlex.quote(path)}")
    return 0
