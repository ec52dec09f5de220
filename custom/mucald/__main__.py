"""``python -m mucald jobs/mucald``: run a job in one process, with the numbers that FLARE would give."""

import argparse
import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from mucald.errors import InterruptedRunError, MucaldError
from mucald.federation import workspace as workspaces
from mucald.federation.in_process import run_in_process
from mucald.home import beside, participant_home
from mucald.methods import family_of
from mucald.methods.jobs import load_job

log = logging.getLogger("mucald")

_SIGNAL = 128
"""A command that a signal ends has the status 128 plus the signal's number."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mucald", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder, for example jobs/mucald")
    parser.add_argument("-w", "--workspace", type=Path, default=Path("workspace"), help="where results go")
    parser.add_argument("-c", "--clients", help="comma-separated sites; all of the job by default")
    parser.add_argument(
        "-t", "--threads", type=_positive, help="sites that run at once; as many as cores by default"
    )
    parser.add_argument("--seed", type=int, help="instead of the job's")
    parser.add_argument("--resume-from", help="a run's name as printed when it began, or 'latest'")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="move results of an earlier run to <workspace>.1 rather than delete them",
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    received = [int(signal.SIGINT)]
    try:
        with _termination_interrupts(received):
            _run(arguments)
    except InterruptedRunError as error:
        log.error("%s", error)
        return _SIGNAL + received[0]
    except KeyboardInterrupt:
        log.error("stopped before the run began; there is nothing to go on with")
        return _SIGNAL + received[0]
    except MucaldError as error:
        log.error("%s", error)
        return 1
    except OSError as error:
        log.error("%s: %s", error.filename, error.strerror)
        return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    workspace = arguments.workspace.resolve()
    config, sites = load_job(arguments.job)
    if arguments.seed is not None:
        config = dataclasses.replace(config, seed=arguments.seed)
    if arguments.resume_from is not None:
        config = dataclasses.replace(config, resume_from=arguments.resume_from)
    names = arguments.clients.split(",") if arguments.clients else sites
    family = family_of(config.method)
    family.check(config, names)
    with workspaces.held(workspace):
        if arguments.keep:
            if (place := workspaces.set_aside(workspace)) is not None:
                log.info("results of an earlier run are now in %s", place)
        elif config.resume_from is None:
            workspaces.empty(workspace)
        run_in_process(
            family,
            config,
            names,
            workspace,
            lambda name: participant_home(beside(workspace, name), name),
            arguments.threads or os.cpu_count() or 1,
        )


@contextlib.contextmanager
def _termination_interrupts(received: list[int]) -> Iterator[None]:
    """Treat a SIGTERM like Ctrl-C; the number of the signal that came is put into ``received``."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal names it
        received[0] = number
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command() -> None:
    """Run the command line and end the process, threads of an interrupted run included."""
    status = main()
    if status > _SIGNAL:
        logging.shutdown()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    command()
