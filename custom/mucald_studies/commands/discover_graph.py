"""Learn a causal graph over a task's proxies, and compare it with the one that is built in.

    mucald discover-graph --task ham10k
    mucald discover-graph --home home/dermatology --nonlinear

It is learnt from training rows alone: of phantoms, or of a site's own images, given the folder with its
``site.json``. Prepared images are kept in that folder's cache, as in training; rows are written nowhere.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mucald.command_line import FORCE, Found, Parser, add_json_option, at_least, check_free, command
from mucald.config.common import DataConfig, PhantomConfig
from mucald.console import clock, time_left
from mucald.data.loading import load_site_data
from mucald.data.site_file import SITE_FILE, read_site_file
from mucald.errors import ConfigError, DataError
from mucald.methods.split.causal.graphs import causal_task, measures_of
from mucald.tasks import Task, get_task
from mucald_studies.discovery.drawing import draw
from mucald_studies.discovery.findings import Findings, Method
from mucald_studies.discovery.nonlinear import NonlinearNotears
from mucald_studies.discovery.notears import LinearNotears
from mucald_studies.discovery.report import text_report
from mucald_studies.discovery.rows import ROWS_PER_NODE, Rows, bootstrap, complete_rows, learn
from mucald_studies.reporting.figures import svg

SECONDS_BETWEEN_LINES = 5.0


def training_rows(options: argparse.Namespace) -> tuple[Task, Rows, str]:
    """Return task, rows and their source.

    Raises:
        MucaldError: the task is unknown or missing, the site file or an image is wrong, or rows are too few.
    """
    if options.home is None:
        _announce_phantoms(options)
    elif not (options.home / SITE_FILE).exists():
        raise DataError(f"{options.home} has no {SITE_FILE}; give the folder of one site, HOME/<site>")
    elif options.task not in (None, read_site_file(options.home / SITE_FILE).task):
        raise ConfigError(f"{options.home / SITE_FILE} is not of the task '{options.task}'; leave --task out")
    site = options.home.name if options.home else options.task
    config = DataConfig(
        image_size=options.image_size, phantoms=PhantomConfig(train=options.phantoms, validation=1, test=1)
    )
    data = load_site_data(site, options.task, config, options.seed, options.home, measures_of)
    rows = complete_rows(
        causal_task(data.task.name).graph.nodes, data.train.measures.numpy().astype(np.float64)
    )
    of_size = f" of {options.image_size} pixels" if options.home is None else ""
    return data.task, rows, data.source + of_size


def _announce_phantoms(options: argparse.Namespace) -> None:
    if options.task is None:
        raise ConfigError("give --task to draw phantoms of it, or --home for the images of a site")
    needed = ROWS_PER_NODE * len(causal_task(get_task(options.task).name).graph.nodes)
    if options.phantoms < needed:
        raise ConfigError(f"--phantoms must be at least {needed} for {options.task}, not {options.phantoms}")
    print(f"drawing {options.phantoms} phantoms of {options.image_size} pixels", file=sys.stderr)


def progress_lines(resamples: int) -> Callable[[int], None]:
    """Return a function that is told of each resample and prints a line now and then."""
    start = shown = time.monotonic()

    def report(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < SECONDS_BETWEEN_LINES and done < resamples:
            return
        shown, passed = now, now - start
        times = f"{clock(passed)} passed, about {time_left(passed, done, resamples)} left"
        print(f"resample {done}/{resamples} | {times}", file=sys.stderr)

    return report


def discover(options: argparse.Namespace) -> Findings:
    """Learn the graph and its stability.

    Raises:
        MucaldError: see :func:`training_rows`.
    """
    task, rows, source = training_rows(options)
    method: Method = NonlinearNotears() if options.nonlinear else LinearNotears()
    strengths = learn(rows, method, options.threshold, options.seed)
    stability = None
    if options.bootstrap:
        show = progress_lines(options.bootstrap)
        stability = bootstrap(rows, method, options.threshold, options.bootstrap, options.seed, show)
    settings = options.seed, rows, method, options.threshold
    return Findings(task, source, options.home is None, *settings, strengths, stability)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald discover-graph", description=__doc__)
    parser.add_argument("--task", help="name of the task; with --home that of its site file by default")
    parser.add_argument("--home", type=Path, help="folder of a site with own images, HOME/<site>")
    parser.add_argument("--phantoms", type=at_least(1), default=1000, help="training phantoms to draw")
    parser.add_argument(
        "--image-size",
        type=at_least(16),
        default=128,
        help="side of the phantoms in pixels; proxies of own images are taken at full resolution",
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nonlinear", action="store_true", help="networks in place of weighted sums")
    parser.add_argument("--bootstrap", type=at_least(0), default=50, help="resamples; 0 for none")
    parser.add_argument("--threshold", type=at_least(0, float), default=0.1, help="least strength of an edge")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw both graphs there")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(options: argparse.Namespace) -> Found:
    """Learn the graph, and print how it compares."""
    # The matrices are tiny: more threads would only wait for each other.
    torch.set_num_threads(1)
    check_free(filter(None, (options.svg,)), options.force)
    findings = discover(options)
    print(text_report(findings), end="")
    if options.svg:
        _write(options.svg, svg(draw(findings), "graph").decode())
    return Found(findings.to_dict())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


main = command(describe, run)
