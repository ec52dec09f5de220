"""A provisioned federation with mutual TLS on the loopback interface: results, refusals and faults."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from families import METHODS
from image_files import write_pair
from loopback_federation import LEAD, REPOSITORY, Loopback, loopback, write_main_job
from tiny_job import PLAIN, in_one_process, tiny_content, write_policy

from mucald.deploy.submission import exported
from mucald.home import PROVISIONED_HOME
from mucald.methods.jobs import load_job
from mucald.privacy.policy import POLICY_FILE

# One worker, so that there is one federation.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("provisioned")]

SITES = ("north", "south", "west")
LIMIT_S = 240
ORG_ADMIN = "it@embryo-clinic.org"
# What may differ between two runs of the same numbers.
INCIDENTAL = ("run_id", "timing")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback(tmp_path_factory.mktemp("federation"), SITES) as running:
        yield running


def numbers(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "results.json").read_text())
    content["config"] |= {"resume_from": None}
    return {key: value for key, value in content.items() if key not in INCIDENTAL}


def models(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.name}:{name}": tensor
        for path in sorted((folder / "models").glob("*.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }


def assert_equal_to_one_process(job: Path, results: Path, folder: Path) -> None:
    config, sites = load_job(job)
    in_one_process(config, sites, folder / "local", folder / "home")
    assert numbers(results) == numbers(folder / "local/server")
    found, expected = models(results), models(folder / "local/server")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def submit(
    federation: Loopback, job: Path, out: Path, *arguments: str, by: str = LEAD
) -> subprocess.Popen[str]:
    kit = federation.kits / by
    command = [sys.executable, REPOSITORY / "tools/submit.py", job, "--kit", kit, "--out", out, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=LIMIT_S)[0]
    finally:
        process.kill()


def results_of(out: Path) -> Path:
    (folder,) = (path.parent for path in out.glob("*/workspace/results.json"))
    return folder


# The policy of the kits allows ε = 1.
GENERATIVE = METHODS["generative cvae"] | {"name": "generative", "privacy": {"epsilon": 1.0}}


@pytest.mark.parametrize("content", [tiny_content(), GENERATIVE], ids=["split", "generative cvae"])
def test_a_submitted_job_gives_the_numbers_of_one_process_and_listens_on_loopback_alone(
    content, federation, tmp_path
):
    job = write_main_job(tmp_path, content)
    process = submit(federation, job, tmp_path / "out")
    federation.job_process("north")
    addresses = federation.listening()
    output = finish(process)
    assert process.returncode == 0, output
    assert "round 2/2" in output
    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert_equal_to_one_process(job, results_of(tmp_path / "out"), tmp_path)


@pytest.fixture
def open_policies(federation: Loopback) -> Iterator[None]:
    """All sites let weights leave for the time of a test, which the policy of the kits refuses."""
    files = [federation.kits / site / PROVISIONED_HOME / POLICY_FILE for site in SITES]
    kept = [file.read_bytes() if file.exists() else None for file in files]
    for file in files:
        write_policy(file.parent)
    yield
    for file, before in zip(files, kept, strict=True):
        file.unlink() if before is None else file.write_bytes(before)


@pytest.mark.usefixtures("open_policies")
def test_weights_of_volumes_give_the_numbers_of_one_process(federation, tmp_path):
    job = write_main_job(tmp_path, METHODS["weights volumes"] | {"name": "volumes"})
    process = submit(federation, job, tmp_path / "out")
    output = finish(process)
    assert process.returncode == 0, output
    assert_equal_to_one_process(job, results_of(tmp_path / "out"), tmp_path)


@pytest.fixture
def damaged_image(federation: Loopback) -> Iterator[Path]:
    """North has images of its own for the time of a test, one of which is damaged."""
    home = federation.kits / "north" / PROVISIONED_HOME
    before = set(home.iterdir()) if home.exists() else set()
    for index in range(4):
        write_pair(home / f"images/{index}.png", home / f"masks/{index}.png", index, top=255)
    damaged = home / "images/2.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    policy = home / POLICY_FILE
    kept = policy.read_bytes() if policy.exists() else None
    write_policy(home)
    (home / "site.json").write_text(json.dumps({"task": "kvasir", "root": ".", "layout": "pairs"}))
    yield damaged
    for path in set(home.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kept is not None:
        policy.write_bytes(kept)


def test_a_damaged_image_ends_its_own_sites_run_alone(federation, damaged_image, tmp_path):
    server = federation.processes["localhost"]
    sites = tiny_content()["sites"] | {"north": {"task": "kvasir"}}
    content = tiny_content(PLAIN, name="damaged", sites=sites, min_sites=2, training={"rounds": 1})
    process = submit(federation, write_main_job(tmp_path, content), tmp_path / "out")
    output = finish(process)
    assert process.returncode == 0, output
    folder = results_of(tmp_path / "out")
    results = numbers(folder)
    assert {one["site"] for one in results["failures"]} == {"north"}
    assert all("unreadable" in one["reason"] for one in results["failures"])
    assert results["sites"].keys() == {"south", "west"}
    assert all(site["test"] is not None for site in results["sites"].values())
    log = logs(federation, "north")[-1]
    assert f"{damaged_image}: cannot be read" in log.read_text(), "the site's own log names the file"
    told = output + (folder / "log.txt").read_text() + (folder / "results.json").read_text()
    assert damaged_image.name not in told, "nobody else reads its name"
    assert server.poll() is None
    with federation.admin as admin:
        assert admin.sites() == sorted(SITES)


def test_an_admin_whose_role_may_not_submit_is_refused(federation, tmp_path):
    process = submit(
        federation, write_main_job(tmp_path, tiny_content(name="unwanted")), tmp_path / "out", by=ORG_ADMIN
    )
    output = finish(process)
    assert process.returncode != 0
    assert "not authorized" in output.lower(), output
    assert not list((tmp_path / "out").rglob("results.json"))


def test_a_bundle_with_code_is_refused_where_custom_code_is_forbidden(federation, tmp_path):
    job = write_main_job(tmp_path, tiny_content(name="bundle"))
    with federation.admin as admin, exported(job, code=True) as bundle:
        job_id = admin.submit(bundle)
        assert admin.follow(job_id, lambda _: None, LIMIT_S) == "FINISHED:FAILED_TO_RUN"
        assert "BYOC not permitted" in str(admin.meta(job_id)["job_deploy_detail"])


def test_a_job_process_killed_mid_round_is_started_again_and_changes_no_number(federation, tmp_path):
    content = tiny_content(PLAIN, name="killed", training={"rounds": 2, "local_epochs": 10, "batch_size": 2})
    job = write_main_job(tmp_path, content)
    process = submit(federation, job, tmp_path / "out")
    wait_for_tasks(federation, "north", "killed", 2)
    federation.job_process("north").kill()
    output = finish(process)
    assert process.returncode == 0, output
    assert "site 'north' was started again" in output
    assert_equal_to_one_process(job, results_of(tmp_path / "out"), tmp_path)


def test_a_killed_server_goes_on_with_the_run_by_itself_after_its_restart(federation, tmp_path):
    content = tiny_content(PLAIN, name="crashed", training={"rounds": 2, "local_epochs": 2, "batch_size": 2})
    job = write_main_job(tmp_path, content)
    process = submit(federation, job, tmp_path / "out", "--retries", "1")
    wait_for_round(federation, "localhost", "crashed", 1)
    federation.kill("localhost")
    federation.start("localhost")
    output = finish(process)
    assert process.returncode == 0, output
    assert "going on with run" in output
    assert_equal_to_one_process(job, results_of(tmp_path / "out"), tmp_path)


def stalling(name: str, rounds: int) -> dict[str, Any]:
    """Return a job that needs two sites and leaves one out after twenty seconds without a step."""
    return tiny_content(
        PLAIN,
        name=name,
        training={"rounds": rounds, "local_epochs": 5},
        runtime={"stall_timeout_s": 20.0},
    )


def test_a_site_that_stands_still_is_left_out_and_taken_back_when_it_steps_again(federation, tmp_path):
    job = write_main_job(tmp_path, stalling("stalled", 8))
    process = submit(federation, job, tmp_path / "out")
    wait_for_tasks(federation, "north", "stalled", 2)
    standing = federation.job_process("north")
    standing.suspend()
    try:
        # The round that it was in, without it.
        wait_for_round(federation, "localhost", "stalled", 2)
    finally:
        standing.resume()
    output = finish(process)
    assert process.returncode == 0, output
    assert "site 'north' is left out of round 2: it has not stepped for 20 s" in output
    results = numbers(results_of(tmp_path / "out"))
    present = ["north" in entry["sites"] for entry in results["rounds"]]
    assert present[:2] == [True, False]
    assert present[-1]
    assert all({"south", "west"} <= entry["sites"].keys() for entry in results["rounds"])
    assert {failure["site"] for failure in results["failures"]} == {"north"}
    assert results["sites"]["north"]["test"] is not None


def test_a_site_that_vanishes_with_its_host_is_left_out_and_the_run_ends_without_it(federation, tmp_path):
    job = write_main_job(tmp_path, stalling("vanished", 4))
    process = submit(federation, job, tmp_path / "out")
    wait_for_tasks(federation, "west", "vanished", 2)
    federation.kill("west")
    try:
        output = finish(process)
    finally:
        federation.start("west")
        federation.wait_for_sites()
    assert process.returncode == 0, output
    assert "site 'west' is left out of round 2" in output
    results = numbers(results_of(tmp_path / "out"))
    assert [sorted(entry["sites"]) for entry in results["rounds"]] == [[*SITES], *[["north", "south"]] * 3]
    assert results["sites"]["west"]["test"] is None
    assert results["sites"]["south"]["test"] is not None


def test_a_site_that_claims_to_be_another_changes_nothing(federation, tmp_path):
    """South sends its steps under the name of north too, and calls itself north in every task and report."""
    notes = tmp_path / "forgeries"
    federation.kill("south")
    # Before what the tests themselves find the package by, if anything.
    path = os.pathsep.join([str(REPOSITORY / "tests/flare/forger"), *filter(None, [os.getenv("PYTHONPATH")])])
    federation.start("south", PYTHONPATH=path, FORGER_VICTIM="north", FORGER_NOTES=str(notes))
    try:
        federation.wait_for_sites()
        job = write_main_job(tmp_path, tiny_content(PLAIN, name="forged"))
        process = submit(federation, job, tmp_path / "out")
        output = finish(process)
    finally:
        federation.kill("south")
        federation.start("south")
        federation.wait_for_sites()
    assert process.returncode == 0, output
    outcomes = [json.loads(line) for line in notes.read_text().splitlines()]
    assert {kind for kind, _ in outcomes} == {"origin", "name", "both"}
    assert "ok" not in {code for _, code in outcomes}
    assert_equal_to_one_process(job, results_of(tmp_path / "out"), tmp_path)


def logs(federation: Loopback, site: str) -> list[Path]:
    """Return a site's logs of jobs, the latest last."""
    return sorted((federation.kits / site).glob("*-*/log.txt"), key=lambda path: path.stat().st_mtime)


def wait_for_tasks(federation: Loopback, site: str, job: str, count: int) -> None:
    """Wait until a site has begun that many tasks of a job."""
    wait_for_round(federation, site, job, count - 1)
    log = logs(federation, site)[-1]
    end = time.monotonic() + LIMIT_S
    while log.read_text().count("got task assignment") < count:
        assert time.monotonic() < end, federation.console(site)
        time.sleep(0.02)


def wait_for_round(federation: Loopback, participant: str, job: str, completed: int) -> None:
    """Wait for a participant's checkpoint after so many rounds."""
    end = time.monotonic() + LIMIT_S
    home = federation.kits / participant / PROVISIONED_HOME
    while not list(home.glob(f"runs/{job}-*/round-{completed:03d}/*.sha256")):
        assert time.monotonic() < end, federation.console(participant)
        time.sleep(0.02)
