"""The page of one run: what it shows, and what it leaves at the sites."""

import json
import re
import shutil

import pytest
from tiny_job import REPOSITORY

from mucald import commands
from mucald.commands import main_of, write_page
from mucald.errors import ReportError
from mucald.privacy.disclosure import KINDS
from mucald.privacy.gaussian import mu_of
from mucald_studies.reporting import run_page as module
from mucald_studies.reporting.page import Page
from mucald_studies.reporting.run_page import LOSSES, PAGE, plain_name, run_page, write_run_page
from mucald_studies.reporting.runs import Run, read_run
from mucald_studies.reporting.tables import disclosure_bounds


@pytest.fixture(scope="module")
def run(full) -> Run:
    return read_run(full.run.server / "results.json")


@pytest.fixture
def copy(full, tmp_path):
    """The run's folder of results, to be written into."""
    return shutil.copytree(full.run.folder / "results", tmp_path / "results")


def test_every_score_loss_and_disclosure_is_shown(run):
    page = run_page(run)
    text = page.markdown()
    for site, entry in run.sites.items():
        (row,) = re.findall(rf"(?m)^\| {site} \| {entry['task']} \|.*$", text)
        assert f"{entry['test']['dice']:.3f}" in row
        assert f"{entry['test']['hd95']:.1f}" in row
    table = text.split("## What left the sites")[1].split("##")[0]
    assert all(f"| {kind} | {KINDS[kind].meaning} |" in table for kind in run.disclosures)
    assert table.lstrip().startswith("Images and labels stayed at the sites.")
    assert all(sentence in table for sentence in run.content["privacy"]["meaning"])
    known, parts = (page.pictures[name].data.decode() for name in ("loss.svg", "parts.svg"))
    losses = {
        name for record in run.content["rounds"] for one in record["sites"].values() for name in one["losses"]
    }
    assert ">segmentation<" in known
    assert all(f">{name}<" in parts for name in losses - {"segmentation"})
    assert all(f">{site}<" in drawn for site in run.sites for drawn in (known, parts))
    assert all(f"| {plain_name(name)} |" in text for name in losses)
    assert "| training.rounds | 2 |" in text


def test_settings_are_shown_as_the_job_writes_them(run):
    rows = run_page(run).markdown().split("## Settings")[1]
    shown = dict(re.findall(r"(?m)^\| ([a-z][\w.]*) \| (.*) \|$", rows))
    shown.pop("key")
    assert shown
    assert {key: json.loads(text) for key, text in shown.items()} == run.settings


def test_that_images_did_not_leave_is_said_of_no_pooled_run(run):
    content = json.loads(json.dumps(run.content))
    content["config"]["method"] = "pooled"
    left = run_page(Run(run.path, content)).markdown().split("## What left the sites")[1].split("##")[0]
    assert "All images and labels" in left
    assert "stayed" not in left


def test_sites_that_tested_each_others_networks_are_shown_as_a_matrix(run):
    assert "Each other's networks" not in run_page(run).markdown()
    content = json.loads(json.dumps(run.content))
    content["sites"]["north"]["cross_site"] = {"west": 0.25}
    content["sites"]["west"]["cross_site"] = {"north": 0.75}
    text = run_page(Run(run.path, content)).markdown().split("## Each other's networks")[1].split("##")[0]
    north, west = (run.sites[site]["test"]["dice"] for site in ("north", "west"))
    assert "| tests of | metric | north | west |" in text
    assert f"| north | Dice | **{north:.3f}** | 0.250 |" in text
    assert f"| west | Dice | 0.750 | **{west:.3f}** |" in text


def test_every_loss_of_every_job_is_explained():
    jobs = json.loads((REPOSITORY / "tests/jobs/golden.json").read_text())
    names = {fact.split("/")[2] for facts in jobs.values() for fact in facts if "/losses/" in fact}
    assert {plain_name(name) for name in names} == set(LOSSES)


def test_an_epsilon_too_large_to_guarantee_anything_is_none(run):
    content = json.loads(json.dumps(run.content))
    (latents,) = (one for one in content["privacy"]["disclosures"] if one["kind"] == "latents")

    def guarantee(*epsilons):
        bounds = zip(("train", "validation", "test"), epsilons, strict=True)
        latents["bounds"] = {split: {"epsilon": epsilon} for split, epsilon in bounds}
        (row,) = re.findall(r"(?m)^\| latents \|.*$", run_page(Run(run.path, content)).markdown())
        return row.split("|")[5].strip()

    assert guarantee(411.2, 411.2, 411.2) == "none (ε 411)"
    assert guarantee(9.99, 9.99, 9.99) == "ε 9.99"
    assert guarantee(10.0, 2.0, None) == "none (ε 10) for train; ε 2 for validation; none for test"
    assert "*none* from 10 on" in run_page(run).markdown()


def test_a_guarantee_is_told_at_the_delta_that_the_job_promises_it_at():
    bound = {"epsilon": 1.19, "mu": mu_of(1.0, 1e-4)}
    disclosure = {"facts": {"delta": 1e-4}, "bounds": {"train": bound}}
    assert disclosure_bounds(disclosure) == "ε 1 at δ = 0.0001"


def pictures_of(page: Page) -> list[str]:
    page.markdown()
    return [name for name in page.pictures if name.endswith(".png")]


def test_pictures_of_phantoms_are_shown_and_others_stay(run, caplog):
    with caplog.at_level("INFO"):
        assert {name.split("-")[0] for name in pictures_of(run_page(run))} == set(run.sites)
    assert not caplog.records
    content = json.loads(json.dumps(run.content))
    content["sites"]["north"]["source"] = "own images (pairs)"
    own = Run(run.path, content)
    page = run_page(own)
    assert {name.split("-")[0] for name in pictures_of(page)} == {"south", "west"}
    text = page.markdown()
    assert "pictures of north. They stay in the site's own folder" in text
    allowed = run_page(own, own_pictures=True)
    assert {name.split("-")[0] for name in pictures_of(allowed)} == set(run.sites)
    assert "They stay" not in allowed.markdown()


def test_the_page_lies_beside_the_results_for_its_owner_alone(copy, capsys):
    assert main_of("page")([str(copy)]) == 0
    path = copy / "server" / PAGE
    assert capsys.readouterr().out == f"page: {path}\n"
    assert path.stat().st_mode & 0o077 == 0
    assert "https://" not in path.read_text()


def test_of_several_runs_one_must_be_named(copy, tmp_path):
    other = copy / "server/results.json"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/results.json").write_text(other.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(ReportError, match="holds several runs; give the folder of one"):
        write_run_page(tmp_path)


def test_a_fault_of_the_page_is_told_and_ends_no_run(copy, monkeypatch, capsys):
    def full_disk(*_):
        raise OSError(28, "No space left on device", "results.html")

    monkeypatch.setattr(module, "write_run_page", full_disk)
    write_page(copy / "server/results.json")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "no page: results.html: cannot be written (No space left on device); make room\n"
    monkeypatch.setattr(commands, "studies", lambda _: None)
    write_page(copy / "server/results.json")
    assert capsys.readouterr() == ("", "")
