"""Submit a job to a running federation, follow it, and fetch its results.

    mucald submit jobs/mucald --kit provisioned/mucald/prod_00/lead@coordination.org

What is submitted is the job's configuration alone, which sites accept that forbid custom code. With
``--retries N`` a job that fails is submitted again and goes on after its last complete round; ``--resume
latest`` or ``--resume RUN`` does it by hand. Results lie in ``<out>/<job id>/workspace``.
"""

import argparse
import re
from functools import partial
from pathlib import Path

from mucald.command_line import Found, Parser, add_json_option, at_least, command
from mucald.commands import write_page
from mucald.deploy.session import LOST, Federation
from mucald.deploy.submission import exported
from mucald.methods.jobs import load_job

RESULTS = "results.json"
NO_CODE = "BYOC not permitted"
"""As FLARE says that a site takes no code but its own."""
SHOWN_ERRORS = 3


def run(arguments: argparse.Namespace) -> Found:
    """Submit, follow and fetch; the status is 1 if there are no results."""
    tell = partial(print, flush=True)
    sites = load_job(arguments.job)[1]
    resume = arguments.resume
    with Federation(arguments.kit) as federation:
        for _ in range(arguments.retries + 1):
            changes = {} if resume is None else {"resume_from": resume}
            with exported(arguments.job, arguments.code, **changes) as job:
                if absent := federation.wait_for_sites(sites, arguments.wait_for_sites):
                    tell(f"not connected: {', '.join(absent)}")
                job_id = federation.submit(job)
            tell(f"job {job_id}: submitted")
            if arguments.no_wait:
                return Found({"job_id": job_id, "results": None})
            status = federation.follow(job_id, tell, arguments.timeout)
            if status != LOST:
                folder = federation.download(job_id, arguments.out) / "workspace"
                if (folder / RESULTS).exists():
                    tell(f"results: {folder / RESULTS}")
                    write_page(folder / RESULTS)
                    return Found({"job_id": job_id, "results": folder / RESULTS})
                refusals = federation.refusals(job_id)
                for line in refusals + errors(folder / "log.txt"):
                    tell(line)
                if any(NO_CODE in line for line in refusals):
                    tell(f"{NO_CODE}: these sites accept no code with a job; submit it without --code")
            tell(f"job {job_id} ended as {status}, without results")
            resume = run_name(federation.progress(job_id)) or resume
    return Found({"job_id": job_id, "results": None, "ended": status}, status=1)


def run_name(progress: list[str]) -> str | None:
    """Return the name of the run that a job began or went on with; None if it did not come so far."""
    names = [match[1] for line in progress if (match := re.match(r"(?:going on with )?run ([\w.-]+)", line))]
    return names[-1] if names else None


def errors(log: Path) -> list[str]:
    """Return the first errors of a server's log, each in one line, under the log's path."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    found = [line for line in lines if " - ERROR - " in line][:SHOWN_ERRORS]
    return [f"from {log}:", *found] if found else []


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald submit", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder")
    parser.add_argument("--kit", type=Path, required=True, help="start-up kit of an admin who may submit")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where results go")
    parser.add_argument("--code", action="store_true", help="submit the package along with the job")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run, or with the 'latest'")
    parser.add_argument(
        "--retries", type=at_least(0), default=0, help="submit a failed job again, so often at most"
    )
    parser.add_argument(
        "--timeout", type=at_least(0, float), help="seconds to wait for a job; for ever by default"
    )
    parser.add_argument(
        "--wait-for-sites",
        type=at_least(0, float),
        default=60,
        metavar="S",
        help="seconds to wait for absent sites",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not follow the job")
    add_json_option(parser)
    return parser


main = command(describe, run)
