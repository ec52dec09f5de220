"""The commands that make, show and export jobs."""

import json
import shutil
from pathlib import Path

import pytest
from commands import load_tool
from image_files import write_pair
from shrunk_jobs import ROOT, resolved
from tiny_job import CONTENT, CPU, write_job

from mucald.errors import ConfigError, PolicyError
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.jobs import load_job, parse_config


@pytest.fixture
def run(capsys):
    """Run a command of ``tools/`` and return what it printed, on standard error if it failed."""

    def run(tool: str, *arguments: object, status: int = 0) -> str:
        assert load_tool(tool).main([str(argument) for argument in arguments]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return run


def test_show_job_prints_every_value(run):
    assert json.loads(run("show_job", ROOT / "baseline_fedbn")) == resolved("baseline_fedbn")


def test_show_job_prints_what_differs_from_the_base(run):
    content = resolved("baseline_fedbn")
    texts = {key: content[key] for key in ("name", "description")}
    aggregation = {"rule": "fedbn", "args": {}, "statistics": False}
    assert json.loads(run("show_job", ROOT / "baseline_fedbn", "--changed")) == texts | {
        "aggregation": aggregation
    }


def test_an_exported_job_is_whole_and_compared_with_the_base_that_one_names(run, tmp_path):
    exported = tmp_path / "exported"
    run("export_job", ROOT / "baseline_fedbn", "--out", exported)
    written = json.loads((exported / "app/config/mucald.json").read_text())
    assert written == resolved("baseline_fedbn")
    shown = json.loads(run("show_job", exported, "--changed", "split/splitfed"))
    assert shown.keys() == {"name", "description", "aggregation"}
    assert "name a base: --changed split/mucald" in run("show_job", exported, "--changed", status=1)
    message = run("show_job", exported, "--changed", "pooled/centralized", status=1)
    assert "the base has the method 'pooled'" in message
    assert "unknown base 'split/x'" in run("show_job", exported, "--changed", "split/x", status=1)


def site(home: Path, name: str, task: str) -> None:
    (home / name / "data").mkdir(parents=True)
    content = {"task": task, "root": "data", "layout": "pairs"}
    (home / name / "site.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("original", "participants"),
    [("baseline_fedbn", ["derma", "endo"]), ("baseline_centralized", ["pooled"])],
)
def test_new_job_has_the_sites_of_the_folder_and_all_else_of_the_original(
    run, tmp_path, original, participants
):
    home, out = tmp_path / "home", tmp_path / "job"
    site(home, "endo", "kvasir")
    site(home, "derma", "ham10k")
    assert "derma, endo" in run("new_job", ROOT / original, "--home", home, "--out", out)
    config, sites = load_job(out)
    rest = {"group": None, "scanner": "standard", "joins_at_round": 0}
    tasks = {"derma": {"task": "ham10k"} | rest, "endo": {"task": "kvasir"} | rest}
    assert sites == participants
    assert config.to_dict() == resolved(original) | {"sites": tasks}
    assert json.loads((out / "meta.json").read_text())["name"] == original
    assert "exists" in run("new_job", ROOT / original, "--home", home, "--out", out, status=1)


def test_sites_with_images_of_their_own_and_no_policy_are_admitted_to_the_job_that_the_readme_makes(
    run, tmp_path
):
    home, out = tmp_path / "home", tmp_path / "job"
    for site, task in (("endoscopy", "kvasir"), ("dermatology", "ham10k")):
        for number in range(12):
            pair = (tmp_path / site / kind / f"{number}.png" for kind in ("images", "masks"))
            write_pair(*pair, number)
        content = {"task": task, "root": str(tmp_path / site), "layout": "pairs"}
        (home / site).mkdir(parents=True)
        (home / site / "site.json").write_text(json.dumps(content))
    run("new_job", ROOT / "mucald", "--home", home, "--out", out)
    config, sites = load_job(out)
    for site in sites:
        create_site(family_of(config.method), site, config, home / site, "run", CPU)
    content = load_job(ROOT / "mucald_fresh")[0].to_dict() | {"sites": config.to_dict()["sites"]}
    with pytest.raises(PolicyError, match=r"site 'endoscopy' refuses by its policy.json: latents\.max_snr"):
        create_site(family_of("split"), "endoscopy", parse_config(content), home / "endoscopy", "run", CPU)


def test_new_job_of_a_whole_configuration(run, tmp_path):
    original = write_job(tmp_path / "original", CONTENT)
    site(tmp_path / "home", "endo", "kvasir")
    site(tmp_path / "home", "other", "kvasir")
    run("new_job", original, "--home", tmp_path / "home", "--out", tmp_path / "job")
    assert load_job(tmp_path / "job")[1] == ["endo", "other"]


def test_new_job_refuses_at_once_what_a_run_would_refuse(run, tmp_path):
    home, out = tmp_path / "home", tmp_path / "job"
    site(home, "ward", "brain")
    site(home, "clinic", "brain")
    arguments = (ROOT / "mucald", "--home", home, "--out", out)
    assert "the task 'brain' has no causal graph" in run("new_job", *arguments, status=1)
    shutil.rmtree(home)
    site(home, "ward", "kvasir")
    assert "1 sites take part, but min_sites is" in run("new_job", *arguments, status=1)
    site(home, "clinic", "kvasir")
    (home / "clinic/data").rmdir()
    said = run("new_job", *arguments, status=1)
    assert f"{home}/clinic/site.json: 'root' names {home}/clinic/data, which does not exist" in said
    assert not out.exists()


def test_new_job_without_a_site_file_says_where_they_go(run, tmp_path):
    arguments = (ROOT / "mucald", "--home", tmp_path, "--out", tmp_path / "job")
    assert "each site needs" in run("new_job", *arguments, status=1)


@pytest.mark.parametrize("name", ["server", "site 1", "Köln", "a.b"])
def test_a_site_that_flare_cannot_name_is_refused(run, tmp_path, name):
    site(tmp_path / "home", "north", "kvasir")
    site(tmp_path / "home", name, "kvasir")
    arguments = (ROOT / "baseline_fedbn", "--home", tmp_path / "home", "--out", tmp_path / "job")
    assert f"error: a site cannot be named '{name}'" in run("new_job", *arguments, status=1)
    assert not (tmp_path / "job").exists()
    job = write_job(
        tmp_path / "by hand", CONTENT | {"sites": {"north": {"task": "kvasir"}, name: {"task": "kvasir"}}}
    )
    with pytest.raises(ConfigError, match=f"a site cannot be named '{name}'"):
        load_job(job)


@pytest.mark.parametrize("tool", ["new_job", "export_job"])
def test_a_job_is_replaced_only_if_that_is_said_and_nothing_but_a_job(run, tmp_path, tool):
    site(tmp_path / "home", "north", "kvasir")
    site(tmp_path / "home", "south", "kvasir")
    job, out = write_job(tmp_path / "job", CONTENT), tmp_path / "out"
    more = ("--home", tmp_path / "home") if tool == "new_job" else ()
    run(tool, job, "--out", out, *more)
    (out / "app/custom").mkdir()
    assert f"error: {out} exists; give another folder, or --force" in run(
        tool, job, "--out", out, *more, status=1
    )
    run(tool, job, "--out", out, *more, "--force")
    assert not (out / "app/custom").exists()
    (tmp_path / "own").mkdir()
    for place in (job, tmp_path, tmp_path / "own"):
        assert "error: " in run(tool, job, "--out", place, *more, "--force", status=1)
    load_job(job)
    assert (tmp_path / "own").exists()


def test_site_files_are_written_over_only_if_that_is_said(run, tmp_path):
    (tmp_path / "sets/wbc").mkdir(parents=True)
    home = tmp_path / "home"
    arguments = (tmp_path / "sets", "--home", home)
    run("site_files", *arguments)
    before = (home / "wbc/site.json").read_text()
    (home / "wbc/policy.json").write_text("the hospital's own")
    (home / "wbc/site.json").unlink()
    assert f"{home / 'wbc/policy.json'} exists" in run("site_files", *arguments, "--open-policy", status=1)
    assert not (home / "wbc/site.json").exists(), "all is written, or nothing"
    (home / "wbc/site.json").write_text("the hospital's own")
    assert f"{home / 'wbc/site.json'} exists" in run("site_files", *arguments, status=1)
    assert (home / "wbc/site.json").read_text() == "the hospital's own"
    run("site_files", *arguments, "--force")
    assert (home / "wbc/site.json").read_text() == before
