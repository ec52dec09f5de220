import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from results_files import results_like
from tiny_job import (
    REPOSITORY,
    Federation,
    Run,
    run_job,
    tiny_config,
    tiny_content,
    write_job,
    write_policy,
)

from mucald.config.merge import overridden
from mucald.errors import ConfigError, TrainingError
from mucald.federation.workspace import note
from mucald.methods.jobs import load_base
from mucald_studies.commands.experiments import changes, main
from mucald_studies.reporting import experiments
from mucald_studies.reporting.comparability import require_comparable
from mucald_studies.reporting.experiments import REPLACED, Experiment, plan_job, run_experiment
from mucald_studies.reporting.runner import TimeLeft, run_all
from mucald_studies.reporting.runs import find_runs, group_runs

TWO_SITES = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}


@pytest.fixture
def job(tmp_path):
    return write_job(tmp_path / "jobs/tiny", tiny_content(sites=TWO_SITES))


@pytest.fixture
def experiment(job, tmp_path):
    (planned,) = plan_job(job, [7], {}, tmp_path / "runs", None)
    return planned


def numbers(folder: Path) -> dict:
    """Return the results in ``folder`` without names and times."""
    return Run(folder, json.loads((folder / "results.json").read_text())).numbers()


def quiet(line: str) -> None:
    assert "passed" in line


def test_a_plan_has_one_run_per_seed_with_the_changes(job, tmp_path):
    changes = {
        "training.rounds": 5,
        "aggregation": {"rule": "causal", "args": {"floor": 0.1}, "statistics": False},
        "sites.north": {"task": "wbc"},
    }
    first, second = plan_job(job, [7, 8, 7], changes, tmp_path, None)
    assert [e.folder for e in (first, second)] == [tmp_path / "tiny/seed-7", tmp_path / "tiny/seed-8"]
    assert (second.config.seed, second.config.training.rounds) == (8, 5)
    assert second.config.aggregation.args == {"floor": 0.1}
    assert second.config.site("north").task == "wbc"
    assert list(second.sites) == ["north", "south"]


def test_a_job_or_key_that_does_not_exist_is_refused_with_the_closest_name(job, tmp_path):
    with pytest.raises(ConfigError, match=r"tyny is no job folder: .*did you mean 'tiny'"):
        plan_job(job.with_name("tyny"), [7], {}, tmp_path, None)
    with pytest.raises(ConfigError, match=r"no key 'training.ronds'; did you mean '(training\.)?rounds'"):
        plan_job(job, [7], {"training.ronds": 1}, tmp_path, None)
    with pytest.raises(ConfigError, match=r"no key 'trainin.rounds'; did you mean 'training.rounds'"):
        plan_job(job, [7], {"trainin.rounds": 1}, tmp_path, None)
    with pytest.raises(ConfigError, match=r"'training.rounds' must be of type int"):
        plan_job(job, [7], {"training.rounds": "many"}, tmp_path, None)


def test_finished_is_a_run_of_this_job_seed_and_configuration_without_failures(full, tmp_path):
    config = tiny_config()
    experiment = Experiment(tmp_path, config, list(config.sites), tmp_path, None)
    content = full.run.results
    path = tmp_path / "results.json"
    assert experiment.finished() is None
    path.write_text(json.dumps(content))
    assert experiment.finished() is not None
    words = {"description": "other words", "resume_from": "latest"}
    path.write_text(json.dumps(content | {"config": content["config"] | words}))
    assert experiment.finished() is not None
    others = [
        dataclasses.replace(config, seed=8),
        dataclasses.replace(config, name="other"),
        dataclasses.replace(config, training=dataclasses.replace(config.training, rounds=3)),
    ]
    assert [dataclasses.replace(experiment, config=other).finished() for other in others] == [None] * 3
    path.write_text(json.dumps(content | {"failures": [{"site": "north", "round": 0, "reason": "x"}]}))
    assert experiment.finished() is None
    path.write_text(json.dumps(results_like(content, "tiny", 7, {"north": [0.5], "south": [0.5]})))
    assert experiment.finished() is None
    path.write_text("{}")
    assert experiment.finished() is None


def test_a_stopped_run_goes_on_with_the_numbers_of_one_never_stopped(experiment, tmp_path):
    folder = experiment.folder
    assert experiment.stopped() is None
    Federation(experiment.config, folder).run(tasks=1)
    assert experiment.stopped() is not None
    lines: list[str] = []
    run = run_experiment(experiment, simulator=False, threads=1, progress=lines.append)
    shown = [sum(line.startswith(start) for line in lines) for start in ("round 2/2", "test")]
    assert shown == [len(experiment.sites)] * 2
    assert run.path == folder / "results.json"
    assert "going on with run" in (folder / "log.txt").read_text()
    assert numbers(folder) == numbers(run_job(experiment.config, tmp_path / "whole").server)
    # What is left: results, log, the job as it was run, models; no checkpoints.
    assert experiment.finished() is not None
    assert json.loads((folder / "job/app/config/mucald.json").read_text())["seed"] == 7
    assert list(folder.glob("workspace/server/models/*.safetensors"))
    assert not list(folder.glob("home/*/runs/*"))


def test_a_run_of_another_configuration_or_with_a_damaged_checkpoint_is_not_gone_on_with(experiment):
    config = experiment.config
    federation = Federation(config, experiment.folder)
    federation.run(tasks=1)
    data = dataclasses.replace(config.data, image_size=32)
    assert dataclasses.replace(experiment, config=dataclasses.replace(config, data=data)).stopped() is None
    assert experiment.stopped() == federation.coordinator.run_id
    for path in experiment.folder.glob("home/server/runs/*/round-001/server.safetensors"):
        path.write_bytes(b"damaged")
    assert experiment.stopped() is None


def test_when_a_run_fails_the_reason_is_given_and_the_others_go_on(job, tmp_path, capfd):
    bad = {"optimiser.segmentation": 1e30, "optimiser.clip_norm": 1e30}
    failing = plan_job(job, [7], bad, tmp_path / "bad", None)
    good = plan_job(job, [7], {"training.rounds": 1}, tmp_path / "good", None)
    assert run_all([*failing, *good], simulator=False, threads=1) == 1
    output = capfd.readouterr()
    assert "error: tiny, seed 7 failed: " in output.err
    assert re.search("site '\\w+' is left out of round 1: .*; .*min_sites is 2", output.err)
    assert "runs: 2, finished before: 0" in output.out
    assert "[2/2] tiny, seed 7: mean test score" in output.out
    assert failing[0].finished() is None
    assert good[0].finished() is not None


def test_a_run_in_which_a_site_failed_is_kept_but_not_finished(tmp_path):
    job = write_job(tmp_path / "tiny", tiny_content(training={"rounds": 1}))
    for site in ("north", "south", "west"):
        (tmp_path / "home" / site).mkdir(parents=True)
    (tmp_path / "home/west/site.json").write_text('{"task": "kvasir", "root": "nowhere", "layout": "pairs"}')
    (planned,) = plan_job(job, [7], {}, tmp_path / "runs", tmp_path / "home")
    with pytest.raises(TrainingError, match="not whole: site 'west' was left out of round 1"):
        run_experiment(planned, simulator=False, threads=1, progress=quiet)
    assert (planned.folder / "results.json").exists()
    assert planned.finished() is None


@pytest.mark.parametrize(("lost", "starts"), [(2, 3), (3, 3)])
def test_a_simulator_that_lost_its_port_is_started_again_three_times_in_all(
    lost, starts, experiment, tmp_path, monkeypatch
):
    command, seen = experiments.command, []

    def unlucky(*arguments: Any) -> list[str]:
        (tmp_path / "run.sh").write_text(
            f"echo start >> {tmp_path}/starts\n"
            f"if [ $(wc -l < {tmp_path}/starts) -le {lost} ]; then\n"
            "  echo 'OSError: [Errno 98] Address already in use'; sleep 60; exit 1\n"
            f"fi\nexec {shlex.join(command(*arguments))}\n"
        )
        return ["bash", str(tmp_path / "run.sh")]

    monkeypatch.setattr(experiments, "command", unlucky)
    begun = time.monotonic()
    if lost < starts:
        run_experiment(experiment, simulator=False, threads=1, progress=seen.append)
        assert experiment.finished() is not None
    else:
        with pytest.raises(TrainingError, match="took the simulator's ports 3 times"):
            run_experiment(experiment, simulator=False, threads=1, progress=seen.append)
    assert (tmp_path / "starts").read_text().count("start") == min(lost + 1, starts)
    assert sum("starting again" in line for line in seen) == lost
    assert time.monotonic() - begun < 60, "it did not wait for the one without a port"


def test_time_left_is_that_of_runs_of_the_same_job_or_else_of_all():
    left = TimeLeft()
    assert left.of(["slow"]) is None
    left.add("slow", 90)
    left.add("slow", 110)
    left.add("fast", 10)
    assert left.of(["slow", "fast", "fast"]) == pytest.approx(120)
    assert left.of(["unknown"]) == pytest.approx(70)
    assert left.of([]) == 0


def test_changes_are_json_or_text():
    assert changes(["a.b=2", "c=true", "d=equal", 'e={"f": 0.1}', "g="]) == {
        "a.b": 2,
        "c": True,
        "d": "equal",
        "e": {"f": 0.1},
        "g": "",
    }
    with pytest.raises(ConfigError, match="write KEY=VALUE"):
        changes(["training.rounds"])


def run_tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "tools/experiments.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_job_that_does_not_exist_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--jobs", "nope", "--out", str(tmp_path / "runs")]) == 1
    said = f"error: nope: {tmp_path / 'nope'} is no job folder: it does not exist\n"
    assert capsys.readouterr() == ("", said)
    assert not (tmp_path / "runs").exists()


def test_what_a_run_left_that_never_came_to_a_checkpoint_is_not_in_the_way(experiment):
    left = experiment.folder / "workspace/server/tb_events/old"
    left.parent.mkdir(parents=True)
    left.touch()
    note(experiment.folder / "workspace", ["north"])
    run_experiment(experiment, simulator=False, threads=1, progress=quiet)
    assert not left.exists()


def test_the_command_resumes_and_sets_aside_what_is_outdated(job, tmp_path):
    rest = ("--seeds", "8", "--out", tmp_path / "runs", "--set")
    first = run_tool("--jobs", job, job.with_name("tyny"), *rest, "training.rounds=1")
    assert first.returncode == 1, first.stderr
    assert "did you mean 'tiny'" in first.stderr
    path = tmp_path / "runs/tiny/seed-8/results.json"
    written = path.stat().st_mtime_ns
    again = run_tool("--jobs", job, *rest, "training.rounds=1")
    assert again.returncode == 0, again.stderr
    assert "runs: 1, finished before: 1" in again.stdout
    assert path.stat().st_mtime_ns == written
    changed = run_tool("--jobs", job, *rest, "training.rounds=2")
    assert changed.returncode == 0, changed.stderr
    assert len(json.loads(path.read_text())["rounds"]) == 2
    assert (tmp_path / "runs" / REPLACED / "tiny/seed-8-1/results.json").exists()


def write_homes(home: Path) -> None:
    """Write the folders of two sites with images of their own."""
    random = np.random.default_rng(0)
    for site in ("ward", "clinic"):
        for folder in ("images", "masks"):
            (home / site / folder).mkdir(parents=True)
        for number in range(6):
            image = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            mask = np.zeros((16, 16), dtype=np.uint8)
            mask[4:12, 4 + number % 4 : 12] = 255
            Image.fromarray(image).save(home / site / f"images/{number}.png")
            Image.fromarray(mask).save(home / site / f"masks/{number}.png")
        site_file = {"task": "kvasir", "root": ".", "layout": "pairs"}
        (home / site / "site.json").write_text(json.dumps(site_file))
        write_policy(home / site)


def test_the_command_takes_its_sites_from_home(job, tmp_path):
    write_homes(tmp_path / "home")
    done = run_tool(
        *(
            "--jobs",
            job,
            "--out",
            tmp_path / "runs",
            "--home",
            tmp_path / "home",
            "--set",
            "training.rounds=1",
        )
    )
    assert done.returncode == 0, done.stderr
    sites = numbers(tmp_path / "runs/tiny/seed-7")["sites"]
    assert {name: site["source"] for name, site in sites.items()} == {
        "ward": "own images (pairs)",
        "clinic": "own images (pairs)",
    }
    assert (tmp_path / "home/ward/noise_secret").exists()
    assert not list(tmp_path.glob("home/*/runs/*"))
    assert not (tmp_path / "home/server").exists()


def test_a_job_that_pools_the_data_reads_the_images_that_its_sites_would_read(job, tmp_path):
    """Report and experiments see the same sites with the same data as of any other job."""
    write_homes(tmp_path / "home")
    tiny = tiny_content(sites=TWO_SITES)
    small = {section: tiny[section] for section in ("sites", "data", "training", "network", "runtime")}
    content = overridden(load_base("pooled/centralized").to_dict(), {"name": "pooled", **small})
    pooled = write_job(tmp_path / "jobs/pooled", content, ["server", "pooled"])
    runs = ("--out", tmp_path / "runs", "--home", tmp_path / "home", "--set", "training.rounds=1")
    done = run_tool("--jobs", job, pooled, *runs)
    assert done.returncode == 0, done.stderr
    again = run_tool("--jobs", pooled, *runs)
    assert "runs: 1, finished before: 1" in again.stdout
    reference, own = group_runs(find_runs([tmp_path / "runs"]))[::-1]
    assert (reference.label, own.label) == ("tiny", "pooled")
    require_comparable([own], reference)
    for site in ("ward", "clinic"):
        assert own.first.sites[site]["source"] == "own images (pairs)"
        assert own.scores(site).shape == reference.scores(site).shape
    # One secret and one cache per site, whoever reads the images.
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["clinic", "ward"]
    assert not list((tmp_path / "runs").glob("*/*/home/*/runs/*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_simulator_gives_the_same_numbers(experiment, tmp_path):
    # One process needs less of a job's folder than FLARE does.
    shutil.copytree(REPOSITORY / "jobs/mucald/app/custom", experiment.job / "app/custom")
    for name in ("config_fed_server.json", "config_fed_client.json"):
        shutil.copy(REPOSITORY / "jobs/mucald/app/config" / name, experiment.job / "app/config")
    in_process = dataclasses.replace(experiment, folder=tmp_path / "in process")
    run_experiment(in_process, simulator=False, threads=2, progress=quiet)
    run_experiment(experiment, simulator=True, threads=None, progress=quiet)
    assert numbers(experiment.folder) == numbers(in_process.folder)
    assert not list(experiment.folder.glob("home/*/runs/*"))
