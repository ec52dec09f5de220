"""Measure what a federation costs, each figure as a ratio within one run beside its limit.

    mucald bench step --out bench

and likewise ``wire``, ``run``, ``scale``, ``codec``, ``segments``, ``plain``, ``windows``, ``training`` and
``weights``. Each prints tables and writes ``<out>/<name>.json``. The status is 0 whether limits are kept or
not, unless ``--strict`` is given. docs/performance.md says what each measures.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mucald.command_line import Found, Parser, add_json_option, at_least, command
from mucald.commands import CHECKOUT
from mucald_studies.benchmark.result import Result

PROJECT = CHECKOUT / "workspace_templates" / "project.yml"
JOB = CHECKOUT / "jobs" / "mucald"
# Synthetic sites have no front end to freeze, so they release anew in every step.
FRESH = JOB.with_name("mucald_fresh")
RUNS = ("process", "bare", "parallel", "provisioned")

_NO_SETTINGS = ("measure", "out", "strict", "json")

Measure = Callable[[argparse.Namespace], Result]
"""Does one subcommand's work. Each imports what it needs itself: FLARE and torch take seconds to import."""


def wire(arguments: argparse.Namespace) -> Result:
    """Measure the carriers, in the clear and, unless told otherwise, under mutual TLS."""
    from mucald_studies.benchmark.carriers.certificates import provisioned
    from mucald_studies.benchmark.wire import CARRIERS, WirePlan, measure, report

    with tempfile.TemporaryDirectory() as folder:
        certificates = provisioned(PROJECT, Path(folder))
        plan = WirePlan(
            [name for name in certificates if name != "server"],
            arguments.sites,
            [round(kib * 1024) for kib in arguments.kib],
            arguments.seconds,
            arguments.repeats,
            arguments.carriers or tuple(CARRIERS),
        )
        rates = {"plain": measure(plan)}
        if not arguments.plain_only:
            rates["mutual TLS"] = measure(plan, certificates)
    return report(plan, rates)


def step(arguments: argparse.Namespace) -> Result:
    """Measure the parts of a training step."""
    from mucald_studies.benchmark.step import measure, report

    flare = not arguments.in_process_only
    return report(measure(*_job(arguments), arguments.epochs, arguments.threads, flare))


def whole_run(arguments: argparse.Namespace) -> Result:
    """Measure whole runs: in one process, in the simulator with sites in turn and at once, on real sites."""
    from mucald.methods.jobs import load_job
    from mucald_studies.benchmark.run import PROVISIONED, here, measure, on_provisioned, report

    job, changes = _job(arguments)
    ways = here(arguments.threads, arguments.parallel)
    ways[PROVISIONED] = on_provisioned(PROJECT.parent, load_job(job)[1])
    chosen = {way: ways[way] for way, name in zip(ways, RUNS, strict=True) if name in arguments.carriers}
    return report(measure(job, changes, chosen, arguments.repeats))


def scale(arguments: argparse.Namespace) -> Result:
    """Measure a server with many sites that compute nothing."""
    from mucald_studies.benchmark.scale import measure, report

    return report(measure(*_job(arguments), arguments.sites, arguments.rounds, arguments.steps))


def codec(arguments: argparse.Namespace) -> Result:
    """Measure bytes and Dice of the payload types; runs that are finished are not made again."""
    from mucald_studies.benchmark.codec import choices, measure, report
    from mucald_studies.jobs import changed

    job, changes = _job(arguments)
    wire = changed(job, changes).to_dict()["wire"]
    comparisons = dict(choices(wire, arguments.types, arguments.single))
    out = (arguments.out / "runs").resolve()
    how = arguments.simulator, arguments.threads
    return report(measure(job, changes, comparisons, arguments.seeds, out, *how))


def segments(arguments: argparse.Namespace) -> Result:
    """Measure the network's segments in other precisions and memory layouts, on this machine's device."""
    from mucald_studies.benchmark.segments import measure, report

    return report(measure(*_job(arguments), arguments.sizes, arguments.repeats))


def plain(arguments: argparse.Namespace) -> Result:
    """Train a plain MONAI script at every site of a job beside the job itself; both are scored alike."""
    from mucald.commands.jobs.new_job import new_job
    from mucald_studies.benchmark.plain import measure, report

    job, changes = _job(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.home is not None:
            new_job(job, arguments.home, Path(folder) / job.name)
            job = Path(folder) / job.name
        out = (arguments.out / "runs").resolve()
        return report(measure(job, changes, arguments.seeds, arguments.home, out, arguments.threads))


def windows(arguments: argparse.Namespace) -> Result:
    """Measure how long a volume is predicted, beside MONAI's sliding window called directly."""
    from mucald_studies.benchmark.windows import WindowPlan, measure, report

    size, patch, features = (
        tuple(numbers) for numbers in (arguments.size, arguments.patch, arguments.features)
    )
    return report(measure(WindowPlan(size, patch, features, arguments.repeats, not arguments.unmirrored)))


def training(arguments: argparse.Namespace) -> Result:
    """Measure a training step of a site with volumes beside a plain MONAI loop on the same patches."""
    from mucald_studies.benchmark.training import measure, report

    return report(measure(arguments.job.resolve(), arguments.site, arguments.steps))


def weights(arguments: argparse.Namespace) -> Result:
    """Measure how fast shared weights cross, beside FLARE's own FedAvg, and how memory grows."""
    from mucald_studies.benchmark.weights import measure, report

    sizes = arguments.sites, arguments.rounds, arguments.repeats
    return report(measure(*_job(arguments), *sizes))


def _job(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the job folder and what ``--set`` changes in it."""
    from mucald_studies.commands.experiments import changes

    return arguments.job.resolve(), changes(arguments.set)


def _wire_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sites", type=at_least(1), nargs="+", default=[1, 5], help="sites at once (1 5)")
    parser.add_argument(
        "--kib", type=at_least(0, float), nargs="+", default=[64, 2048, 8192, 32768], help="payloads"
    )
    parser.add_argument("--seconds", type=at_least(0, float), default=1.0, help="per carrier and repeat (1)")
    parser.add_argument("--repeats", type=at_least(1), default=5, help="the median of these counts (5)")
    parser.add_argument("--carriers", nargs="+", help="some of socket grpc core_cell channel aux collab")
    parser.add_argument("--plain-only", action="store_true", help="leave out mutual TLS")


def _job_options(parser: argparse.ArgumentParser, job: Path = JOB) -> None:
    parser.add_argument("--job", type=Path, default=job, help=f"a job folder (jobs/{job.name})")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="values of mucald.json, for a shorter job"
    )


def _step_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument("--epochs", type=at_least(1), default=2, help="local epochs that are timed (2)")
    parser.add_argument(
        "--threads", type=at_least(1), default=os.cpu_count() or 1, help="sites at once (cores)"
    )
    parser.add_argument("--in-process-only", action="store_true", help="leave out FLARE's simulator")


def _run_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument(
        "--threads", type=at_least(1), default=os.cpu_count() or 1, help="in one process (cores)"
    )
    parser.add_argument(
        "-t", "--parallel", type=at_least(1), default=5, help="sites at once in the simulator (5)"
    )
    parser.add_argument("--repeats", type=at_least(1), default=1, help="the median of these counts (1)")
    parser.add_argument("--carriers", nargs="+", choices=RUNS, default=RUNS, help="all by default")


def _scale_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser, FRESH)
    parser.add_argument(
        "--sites", type=at_least(1), nargs="+", default=[1, 2, 5, 10, 20, 50], help="numbers of sites"
    )
    parser.add_argument("--rounds", type=at_least(1), default=3, help="the first is not timed (3)")
    parser.add_argument("--steps", type=at_least(1), default=10, help="steps of each site and round (10)")


def _codec_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument(
        "--types", nargs="*", default=["bfloat16", "int8", "int4"], help="for all directions at once"
    )
    parser.add_argument("--single", nargs="*", default=["int4"], help="for one direction at a time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="7 by default")
    parser.add_argument("--simulator", action="store_true", help="run NVFLARE's simulator; the same numbers")
    parser.add_argument("--threads", type=at_least(1), help="sites that run at once")


def _segments_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument(
        "--sizes", type=at_least(1), nargs="+", default=[64, 256], help="sides in pixels (64 256)"
    )
    parser.add_argument("--repeats", type=at_least(1), default=20, help="the median of these counts (20)")


def _plain_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser, JOB.with_name("consortium_local"))
    parser.add_argument("--home", type=Path, help="folder of the sites' own folders, for real images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="7 by default")
    parser.add_argument("--threads", type=at_least(1), help="sites of the job that run at once")


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", type=Path, default=JOB.with_name("fedcmt"), help="jobs/fedcmt by default")
    parser.add_argument("--site", default="brain", help="of the job (brain)")
    parser.add_argument("--steps", type=at_least(1), default=30, help="the median of these counts (30)")


def _weights_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser, JOB.with_name("fedcmt_fedavg"))
    parser.add_argument(
        "--sites", nargs=2, default=["heart_a", "heart_b"], help="two of the job's (heart_a heart_b)"
    )
    parser.add_argument("--rounds", type=at_least(2), default=20, help="of each run (20)")
    parser.add_argument("--repeats", type=at_least(1), default=2, help="runs of each, in turns (2)")


def _windows_options(parser: argparse.ArgumentParser) -> None:
    count = at_least(1)
    parser.add_argument("--size", type=count, nargs=3, default=[128, 128, 96], help="(128 128 96)")
    parser.add_argument("--patch", type=count, nargs=3, default=[64, 64, 32], help="(64 64 32)")
    parser.add_argument("--features", type=count, nargs="+", default=[8, 16, 32], help="(8 16 32)")
    parser.add_argument("--repeats", type=count, default=3, help="the median of these counts (3)")
    parser.add_argument("--unmirrored", action="store_true", help="leave out the mean over eight mirrorings")


MEASURES: dict[str, tuple[Measure, Callable[[argparse.ArgumentParser], None]]] = {
    "wire": (wire, _wire_options),
    "step": (step, _step_options),
    "run": (whole_run, _run_options),
    "scale": (scale, _scale_options),
    "codec": (codec, _codec_options),
    "segments": (segments, _segments_options),
    "plain": (plain, _plain_options),
    "windows": (windows, _windows_options),
    "training": (training, _training_options),
    "weights": (weights, _weights_options),
}


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald bench", description=__doc__)
    measures = parser.add_subparsers(dest="measure", required=True)
    for name, (function, options) in MEASURES.items():
        own = measures.add_parser(name, help=function.__doc__, description=function.__doc__)
        options(own)
        own.add_argument("--out", type=Path, default=Path("bench"), help="where the JSON goes (bench)")
        own.add_argument("--strict", action="store_true", help="fail if a limit is not kept")
        add_json_option(own)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Measure, print the tables, and write them."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = MEASURES[arguments.measure][0](arguments)
    print(result.text())
    # Of a folder its name: where it lies is of no use elsewhere.
    settings = {
        key: value.name if isinstance(value, Path) else value
        for key, value in vars(arguments).items()
        if key not in _NO_SETTINGS
    }
    written = result.write(arguments.out, settings)
    print(f"\nwritten: {written}")
    failed = arguments.strict and not all(check.passed for check in result.checks)
    return Found(json.loads(written.read_text(encoding="utf-8")), status=int(failed))


main = command(describe, run)
