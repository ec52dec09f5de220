"""Measure what the split costs, each figure as a ratio within one run beside its limit.

Usage: ``python tools/bench.py step --out bench``, and likewise ``wire``, ``run``, ``scale``, ``codec`` and
``segments``

Every subcommand prints tables and writes ``<out>/<subcommand>.json``. Its exit status is 0 whether limits are
kept or not, unless ``--strict`` is given. docs/performance.md says what each measures.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mucald.errors import MucaldError
from mucald_studies.benchmark.result import Result

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = REPOSITORY / "workspace_templates" / "project.yml"
JOB = REPOSITORY / "jobs" / "mucald"
# Synthetic sites have no front end to freeze, so they release anew in every step.
FRESH = JOB.with_name("mucald_fresh")
BROKEN = 2

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
            tuple(arguments.sites),
            tuple(round(kib * 1024) for kib in arguments.kib),
            arguments.seconds,
            arguments.repeats,
            tuple(arguments.carriers or CARRIERS),
        )
        rates = {"plain": measure(plan)}
        if not arguments.plain_only:
            rates["mutual TLS"] = measure(plan, certificates)
    return report(plan, rates)


def step(arguments: argparse.Namespace) -> Result:
    """Measure the parts of a training step."""
    from mucald_studies.benchmark.step import StepPlan, measure, report

    plan = StepPlan(
        arguments.job.resolve(),
        arguments.epochs,
        arguments.threads,
        not arguments.in_process_only,
        changes(arguments.set),
    )
    return report(plan, measure(plan))


def run(arguments: argparse.Namespace) -> Result:
    """Measure whole runs: in one process, in the simulator with sites in turn and at once, on real sites."""
    from mucald.methods.jobs import load_job
    from mucald_studies.benchmark.provisioned import PROVISIONED, runner
    from mucald_studies.benchmark.run import BARE, IN_PROCESS, PARALLEL, RunPlan, measure, report

    job = arguments.job.resolve()
    carriers = {IN_PROCESS: "process", BARE: "bare", PARALLEL: "parallel", PROVISIONED: "provisioned"}
    plan = RunPlan(
        job,
        arguments.threads,
        arguments.parallel,
        [carrier for carrier, name in carriers.items() if name in arguments.carriers],
        arguments.repeats,
        changes(arguments.set),
    )
    return report(plan, measure(plan, {PROVISIONED: runner(PROJECT.parent, load_job(job)[1])}))


def scale(arguments: argparse.Namespace) -> Result:
    """Measure a server with many sites that compute nothing."""
    from mucald_studies.benchmark.scale import ScalePlan, measure, report

    plan = ScalePlan(
        arguments.job.resolve(),
        tuple(arguments.sites),
        arguments.rounds,
        arguments.steps,
        changes(arguments.set),
    )
    return report(plan, measure(plan))


def codec(arguments: argparse.Namespace) -> Result:
    """Measure bytes and Dice of the payload types; runs that are finished are not made again."""
    from mucald_studies.benchmark.codec import CodecPlan, measure, report

    plan = CodecPlan(
        arguments.job.resolve(),
        arguments.types,
        arguments.single,
        arguments.seeds,
        (arguments.out / "runs").resolve(),
        changes(arguments.set),
        arguments.simulator,
        arguments.threads,
    )
    return report(plan, measure(plan))


def segments(arguments: argparse.Namespace) -> Result:
    """Measure the network's segments in other precisions and memory layouts, on this machine's device."""
    from mucald_studies.benchmark.segments import SegmentsPlan, measure, report

    plan = SegmentsPlan(
        arguments.job.resolve(), tuple(arguments.sizes), arguments.repeats, changes(arguments.set)
    )
    return report(plan, measure(plan))


def _wire_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sites", type=int, nargs="+", default=[1, 5], help="sites at once (1 5)")
    parser.add_argument("--kib", type=float, nargs="+", default=[64, 2048, 8192, 32768], help="payloads")
    parser.add_argument("--seconds", type=float, default=1.0, help="per carrier and repeat (1)")
    parser.add_argument("--repeats", type=int, default=5, help="the median of these counts (5)")
    parser.add_argument("--carriers", nargs="+", help="some of socket grpc core_cell channel aux collab")
    parser.add_argument("--plain-only", action="store_true", help="leave out mutual TLS")


def _job_options(parser: argparse.ArgumentParser, job: Path = JOB) -> None:
    parser.add_argument("--job", type=Path, default=job, help=f"a job folder (jobs/{job.name})")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="values of mucald.json, for a shorter job"
    )


def _step_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument("--epochs", type=int, default=2, help="local epochs that are timed (2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="sites at once (cores)")
    parser.add_argument("--in-process-only", action="store_true", help="leave out FLARE's simulator")


def _run_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="in one process (cores)")
    parser.add_argument("-t", "--parallel", type=int, default=5, help="sites at once in the simulator (5)")
    parser.add_argument("--repeats", type=int, default=1, help="the median of these counts (1)")
    names = ("process", "bare", "parallel", "provisioned")
    parser.add_argument("--carriers", nargs="+", choices=names, default=names, help="all by default")


def _scale_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser, FRESH)
    parser.add_argument(
        "--sites", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50], help="numbers of sites"
    )
    parser.add_argument("--rounds", type=int, default=3, help="the first is not timed (3)")
    parser.add_argument("--steps", type=int, default=10, help="steps of each site and round (10)")


def _codec_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument(
        "--types", nargs="*", default=["bfloat16", "int8", "int4"], help="for all directions at once"
    )
    parser.add_argument("--single", nargs="*", default=["int4"], help="for one direction at a time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="7 by default")
    parser.add_argument("--simulator", action="store_true", help="run NVFLARE's simulator; the same numbers")
    parser.add_argument("--threads", type=int, help="sites that run at once")


def _segments_options(parser: argparse.ArgumentParser) -> None:
    _job_options(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="sides in pixels (64 256)")
    parser.add_argument("--repeats", type=int, default=20, help="the median of these counts (20)")


COMMANDS: dict[str, tuple[Measure, Callable[[argparse.ArgumentParser], None]]] = {
    "wire": (wire, _wire_options),
    "step": (step, _step_options),
    "run": (run, _run_options),
    "scale": (scale, _scale_options),
    "codec": (codec, _codec_options),
    "segments": (segments, _segments_options),
}


def changes(texts: list[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts as a dictionary."""
    from experiments import changes as parsed

    return parsed(texts)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (function, options) in COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        options(command)
        command.add_argument("--out", type=Path, default=Path("bench"), help="where the JSON goes (bench)")
        command.add_argument("--strict", action="store_true", help="fail if a limit is not kept")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _arguments(argv)
    try:
        result = COMMANDS[arguments.command][0](arguments)
    except (MucaldError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BROKEN
    print(result.text())
    print(f"\nwritten: {result.write(arguments.out)}")
    return int(arguments.strict and not all(check.passed for check in result.checks))


if __name__ == "__main__":
    sys.exit(main())
