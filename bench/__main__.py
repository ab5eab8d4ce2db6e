"""The benchmark: `python -m bench`. Fresh planes, simulated nodes, the operator with its own rights; README.md has the protocol."""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import runtime
from bench.floor import apply_all, owned_objects, raw_creates, remove, to_template
from bench.instances import create, wait_ready, watching
from bench.measure import b1_create, b2_idle, b3_changed, b3_restart, b3_takeover, b5_repair, start
from bench.report import Report, machine
from bench.rig import NAMESPACES, Rig, fresh_rig, usage
from tests.support.audit import tally
from tests.support.cluster import ROOT
from tests.support.kubeapi import path


class Bench:
    """All measurements of one invocation, into one report."""

    def __init__(self, report: Report, work: Path) -> None:
        self.report = report
        self.work = work

    async def floor(self, count: int, *, raw: bool) -> tuple[dict[str, Any], Path]:
        """B0, and B1 at one instance, whose objects are the template; returns B0b and the file with the template."""
        async with fresh_rig(self._folder("floor")) as rig:
            if raw:
                self.report.add("B0a creates/s by requests in flight", {"rates": await raw_creates(rig, 3000)})
            operator = rig.operator()
            await start(operator)
            one = await b1_create(rig, operator, 1, "benchsrc")
            self.report.add("B1 one instance", one)
            found = await rig.api.get(path("ChatbotInstance", NAMESPACES[0], "benchsrc0"))
            source = ("benchsrc0", NAMESPACES[0], found["metadata"]["uid"])
            template = to_template(await owned_objects(rig.api, source[0], source[1]))
            operator.kill()
            await remove(rig, template, source)
            file = rig.directory / "template.json"
            file.write_text(json.dumps({"objects": template, "source": source}))
            # Also the warm-up of the plane; the second one counts.
            await apply_all(rig, template, source, 1, "warm")
            single = await apply_all(rig, template, source, 1, "single")
            result = await apply_all(rig, template, source, count)
        result["one_over_its_floor_s"] = round(one["ready_s"] - single["ready_s"], 2)
        self.report.add(f"B0b floor, {count} instances", result)
        return result, file

    async def create(self, count: int) -> dict[str, Any]:
        """B1 alone."""
        async with fresh_rig(self._folder("create")) as rig:
            operator = rig.operator()
            await start(operator)
            try:
                created = await b1_create(rig, operator, count)
            finally:
                operator.kill()
        self.report.add(f"B1 create, {count} instances", created)
        return created

    async def everything(self, count: int, *, settle: float, idle: float, deletions: int) -> dict[str, dict[str, Any]]:
        """B1 to B5 on one plane."""
        results: dict[str, dict[str, Any]] = {}
        async with fresh_rig(self._folder("everything")) as rig:
            leader, standby = rig.operator("leader"), rig.operator("standby")
            try:
                await start(leader)
                memory = usage(leader.pid)
                results["B4 memory without instances"] = {"rss_mib": round(memory.rss, 1), "pss_mib": round(memory.pss, 1)}
                results["B1 create"] = await b1_create(rig, leader, count)
                results["B2 idle"] = await b2_idle(rig, leader, settle, idle)
                results["B5 deleted child"] = await b5_repair(rig, deletions)
                results["B3 restart"] = await b3_restart(rig, leader, count)
                results["B3 changed while down"] = await b3_changed(rig, leader, count, 50)
                results["B3 take-over"] = await b3_takeover(rig, leader, standby)
            finally:
                for operator in (leader, standby):
                    if operator.running:
                        operator.kill()
                for name, data in results.items():
                    self.report.add(f"{name}, {count} instances", data)
        return results

    async def naive(self, count: int, template: Path, idle: float) -> dict[str, Any]:
        """B1 and B2 of the naive peer, on a plane of its own."""
        async with fresh_rig(self._folder("naive"), cluster_admin=True) as rig:
            process = start_naive(rig, template)
            try:
                result = await self._naive_runs(rig, process, count, idle)
            finally:
                process.kill()
                process.wait()
        self.report.add(f"naive kopf operator, {count} instances", result)
        return result

    async def _naive_runs(self, rig: Rig, process: subprocess.Popen[bytes], count: int, idle: float) -> dict[str, Any]:
        await asyncio.sleep(5)
        rig.audit.mark()
        async with watching(rig.api) as watched:
            started = time.monotonic()
            await create(rig, watched, count)
            await wait_ready(watched, count, 300 + 5 * count)
            elapsed = time.monotonic() - started
        requests = await rig.audit.requests(rig.api, rig.user)
        result = {"ready_s": round(elapsed, 2), "requests_per_instance": round(len(requests) / count, 1)}
        await asyncio.sleep(30)
        rig.audit.mark()
        before = usage(process.pid)
        await asyncio.sleep(idle)
        after = usage(process.pid)
        requests = await rig.audit.requests(rig.api, rig.user)
        return {
            **result,
            "idle_requests_per_s": round(len(requests) / idle, 2),
            "idle_writes": sum(request.writes for request in requests),
            "idle_cpu_percent": round(100 * (after.cpu - before.cpu) / idle, 2),
            "rss_mib": round(after.rss, 1),
            "requests": dict(tally(requests).most_common(10)),
        }

    def _folder(self, name: str) -> Path:
        folder = self.work / f"{len(self.report.runs):02}-{name}"
        print(f"==> {name}", flush=True)
        return folder


def start_naive(rig: Rig, template: Path) -> subprocess.Popen[bytes]:
    """Start the naive peer as its author would."""
    command = [str(Path(sys.executable).parent / "kopf"), "run", "--standalone", "--all-namespaces", "-m", "bench.peers.naive"]
    search = f"{ROOT}:{ROOT / 'operator'}"
    environment = {**os.environ, "KUBECONFIG": str(rig.kubeconfig), "NAIVE_TEMPLATE": str(template), "PYTHONPATH": search}
    with (rig.directory / "naive.log").open("wb") as log:
        return subprocess.Popen(command, cwd=rig.directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def compare_create(report: Report, count: int, floors: list[dict[str, Any]], created: list[dict[str, Any]]) -> None:
    """Rows of B0 and B1: medians, and the worst where repeated."""
    base = statistics.median(item["ready_s"] for item in floors)
    times = [item["ready_s"] for item in created]
    report.compare(f"floor B0, {count} instances", base, "s")
    report.compare(f"all Ready, {count} instances (median of {len(times)})", statistics.median(times), "s")
    if len(times) > 1:
        report.compare(f"all Ready, {count} instances (worst of {len(times)})", max(times), "s")
    if len(floors) > 1:
        alone = [item["one_over_its_floor_s"] for item in floors]
        report.compare(f"one instance over its floor (median of {len(alone)})", statistics.median(alone), "s", most=0.5)
    report.compare(f"all Ready / floor, {count} instances", round(statistics.median(times) / base, 2), "x", most=1.3)
    objects = created[0]["objects_per_instance"]
    requests = statistics.median(item["requests_per_instance"] for item in created)
    report.compare(f"requests per instance ({objects} objects), {count} instances", requests, "", most=objects + 12)


def compare_steady(report: Report, count: int, results: dict[str, dict[str, Any]]) -> None:
    """Rows of B2 to B5."""
    idle, restart, empty = results["B2 idle"], results["B3 restart"], results["B4 memory without instances"]
    report.compare(f"idle writes, {count} instances", idle["writes"], "", most=0)
    report.compare(f"idle requests, {count} instances", idle["requests_per_s"], "/s", most=1)
    report.compare(f"idle CPU, {count} instances", idle["cpu_percent"], "% of a core", most=2)
    report.compare("RSS without instances", empty["rss_mib"], "MiB", most=90)
    report.compare("PSS without instances", empty["pss_mib"], "MiB")
    report.compare(f"RSS, {count} instances", idle["rss_mib"], "MiB", most=200)
    report.compare(f"PSS, {count} instances", idle["pss_mib"], "MiB")
    slope = (idle["rss_mib"] - empty["rss_mib"]) * 1024 / count
    report.compare("RSS per instance", round(slope, 1), "KiB", most=60)
    report.compare(f"restart: leadership to converged, {count} instances", restart["converged_after_lead_s"], "s", most=15)
    report.compare(f"restart: writes, {count} instances", restart["writes"], "", most=0)
    changed = results["B3 changed while down"]
    report.compare(f"restart: {changed['changed']} changed while down, leadership to Ready", changed["ready_after_lead_s"], "s")
    report.compare("take-over: last renewal to first pass", results["B3 take-over"]["takeover_s"], "s", most=20)
    repair = results["B5 deleted child"]
    report.compare(f"deleted child back, p50, {count} instances", repair["p50_ms"], "ms", most=100)
    report.compare(f"deleted child back, p99, {count} instances", repair["p99_ms"], "ms", most=1000)
    report.compare("deleted children that never came back", repair["deleted"] - repair["returned"], "", most=0)


async def run(options: argparse.Namespace, report: Report, work: Path) -> None:
    """Run what was asked for, in an order that alternates ours and what it is compared with."""
    bench = Bench(report, work)
    if "operator" in options.parts:
        floors, created = [], []
        template = Path()
        for number in range(options.repeats):
            result, template = await bench.floor(options.instances, raw=number == 0)
            floors.append(result)
            created.append(await bench.create(options.instances))
        compare_create(report, options.instances, floors, created)
        if "naive" in options.parts:
            naive = await bench.naive(options.instances, template, 60)
            report.compare(f"naive kopf: all Ready, {options.instances} instances", naive["ready_s"], "s")
            report.compare("naive kopf: requests per instance", naive["requests_per_instance"], "")
            report.compare("naive kopf: idle requests", naive["idle_requests_per_s"], "/s")
            report.compare("naive kopf: idle CPU", naive["idle_cpu_percent"], "% of a core")
            report.compare("naive kopf: RSS", naive["rss_mib"], "MiB")
        if options.large:
            base, _ = await bench.floor(options.large, raw=False)
            results = await bench.everything(options.large, settle=options.settle, idle=options.idle, deletions=options.deletions)
            compare_create(report, options.large, [base], [results["B1 create"]])
            compare_steady(report, options.large, results)
    if "runtime" in options.parts:
        await runtime.measure(report)


def main() -> int:
    """Parse options, run, print the table; ends with 1 if an aim was missed and `--strict` was given."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="What the operator and the runtime cost, beside the floor and a peer."
    )
    parser.add_argument("--instances", type=int, default=200, help="instances of the repeated runs")
    parser.add_argument("--repeats", type=int, default=3, help="repeated runs of floor and ours")
    parser.add_argument("--large", type=int, default=1000, help="instances of the one large run; 0 leaves it out")
    parser.add_argument("--settle", type=float, default=120, help="seconds of rest before idle is measured")
    parser.add_argument("--idle", type=float, default=600, help="seconds that idle is measured")
    parser.add_argument("--deletions", type=int, default=300, help="children that are deleted")
    parser.add_argument("--parts", nargs="+", choices=["operator", "naive", "runtime"], default=["operator", "naive", "runtime"])
    parser.add_argument("--out", type=Path, default=ROOT / "artifacts/bench", help="where report.json and report.md go")
    parser.add_argument("--strict", action="store_true", help="fail when an aim was missed")
    options = parser.parse_args()
    report = Report(machine=machine())
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="chatbot-bench-"))
    print(f"logs: {work}", flush=True)
    try:
        asyncio.run(run(options, report, work))
    finally:
        report.machine["minutes"] = round((time.monotonic() - started) / 60, 1)
        folder = report.write(options.out)
        print(f"\n{report.table()}\n\nwritten to {folder}", flush=True)
    missed = [row.name for row in report.rows if row.met is False]
    return 1 if options.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
