"""FLARE's admin console, as people type into it, against provisioned sites on the loopback interface."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import load_tool
from loopback_federation import LEAD, REPOSITORY, Loopback, loopback, write_main_job
from tiny_job import CONTENT, run_job

from mucald.methods.jobs import load_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SITES = ("embryo", "skin")
LIMIT_S = 240


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback(tmp_path_factory.mktemp("federation"), SITES) as running:
        yield running


def small(name: str, folder: Path) -> Path:
    """Write a shipped job in small, for the sites that are here."""
    content = load_job(REPOSITORY / "jobs" / name)[0].to_dict()
    content["sites"] = {site: content["sites"][site] for site in SITES}
    content |= {key: CONTENT[key] for key in ("data", "training", "network")}
    return write_main_job(folder, content)


def console(federation: Loopback, *commands: str) -> str:
    """Type commands into the lead's console and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", federation.kits / LEAD / "startup/fl_admin.sh"],
        input="\n".join([LEAD, *commands, "bye", ""]),
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return done.stdout


def test_the_console_runs_jobs_by_name_and_fetches_their_results(federation, tmp_path, capsys):
    kit = federation.kits / LEAD
    jobs = [small(name, tmp_path / "jobs") for name in ("mucald", "ablation_no_diffusion")]
    set_up = [str(kit), "--jobs", str(tmp_path / "jobs")]
    assert load_tool("site_setup").main(set_up) == 0
    assert f"written  {kit / 'transfer'}: ablation_no_diffusion, mucald\n" in capsys.readouterr().out
    # What people did before: the folder of jobs as it is.
    shutil.copytree(tmp_path / "jobs", kit / "transfer/jobs")

    printed = console(
        federation, "submit_job mucald", "submit_job jobs/mucald", "submit_job ablation_no_diffusion"
    )
    ids = re.findall(r"Submitted job: (\S+)", printed)
    assert len(ids) == 3, printed
    with federation.admin as admin:
        ended = [admin.follow(job_id, lambda _: None, LIMIT_S) for job_id in ids]
    assert ended == ["FINISHED:COMPLETED", "FINISHED:FAILED_TO_RUN", "FINISHED:COMPLETED"]
    raw = ids.pop(1)
    printed = console(
        federation, "list_jobs", f"list_jobs -d {raw}", *(f"download_job {job_id}" for job_id in ids)
    )
    assert re.search(rf"{raw} \| mucald +\| FINISHED:FAILED_TO_RUN", printed)
    assert [f"{site}: NVFLARE_ERROR: BYOC not permitted" in printed for site in SITES] == [True, True]
    for job, job_id in zip(jobs, ids, strict=True):
        found = json.loads((kit / "transfer" / job_id / "workspace/results.json").read_text())
        expected = run_job(load_job(job)[0], tmp_path / job.name).results
        assert found["config"] == expected["config"]
        assert found["rounds"] == expected["rounds"]
        assert found["sites"] == expected["sites"]

    assert load_tool("site_setup").main(set_up) == 0
    printed = capsys.readouterr().out
    assert "written" not in printed, "a submission signs the job, and that is no edit"
    assert f"{kit / 'transfer/jobs'} has a folder app/custom" in printed
