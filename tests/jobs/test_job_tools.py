"""The commands that make, show and export jobs."""

import json
from pathlib import Path

import pytest
from commands import load_tool
from shrunk_jobs import ROOT, resolved
from tiny_job import CONTENT, write_job

from mucald.methods.jobs import load_job


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
    (home / name).mkdir(parents=True)
    content = {"task": task, "root": "/data", "layout": "pairs"}
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
    tasks = {"derma": {"task": "ham10k", "group": None}, "endo": {"task": "kvasir", "group": None}}
    assert sites == participants
    assert config.to_dict() == resolved(original) | {"sites": tasks}
    assert json.loads((out / "meta.json").read_text())["name"] == original
    assert "exists" in run("new_job", ROOT / original, "--home", home, "--out", out, status=1)


def test_new_job_of_a_whole_configuration(run, tmp_path):
    original = write_job(tmp_path / "original", CONTENT)
    site(tmp_path / "home", "endo", "kvasir")
    site(tmp_path / "home", "other", "kvasir")
    run("new_job", original, "--home", tmp_path / "home", "--out", tmp_path / "job")
    assert load_job(tmp_path / "job")[1] == ["endo", "other"]


def test_new_job_without_a_site_file_says_where_they_go(run, tmp_path):
    arguments = (ROOT / "mucald", "--home", tmp_path, "--out", tmp_path / "job")
    assert "each site needs" in run("new_job", *arguments, status=1)
