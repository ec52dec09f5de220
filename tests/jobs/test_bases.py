"""A job as a base and what differs: what is read, and what is refused by name."""

import json
from dataclasses import fields
from importlib import resources

import pytest
from shrunk_jobs import JOBS, resolved
from tiny_job import CONTENT

import mucald.methods.jobs
from mucald.config.job import JobConfig
from mucald.config.merge import differences, overridden
from mucald.errors import ConfigError
from mucald.methods import FAMILIES
from mucald.methods.jobs import (
    base_names,
    comparison_names,
    load_base,
    load_config,
    parse_config,
    read_comparison,
)


def job(base="split/mucald_fresh", **more):
    return {"base": base, "name": "own", "description": "a test"} | more


def test_a_job_is_its_base_with_what_it_sets():
    config = parse_config(job(set={"release.noised": False, "aggregation": {"rule": "fedbn"}}))
    expected = load_base("split/mucald_fresh").to_dict()
    expected |= {"name": "own", "description": "a test"}
    expected["release"]["noised"] = False
    expected["aggregation"] = {"rule": "fedbn", "args": {}, "statistics": False}
    assert config.to_dict() == expected


def test_a_job_of_a_comparison_takes_from_there_what_it_does_not_set_itself():
    changes = {"training.rounds": 3, "release.noised": False}
    alike = parse_config(job(comparison="consortium")).to_dict()
    config = parse_config(job(comparison="consortium", set=changes))
    assert config.training.rounds == 3
    assert config.to_dict() == overridden(alike, changes)
    base = load_base("split/mucald_fresh").to_dict()
    assert {key for key in base if alike[key] != base[key]} == {
        *("name", "description"),
        *("sites", "data", "training"),
    }
    own = parse_config(job(comparison="consortium", set={"sites": {"a": {"task": "wbc"}}}))
    assert list(own.sites) == ["a"]


@pytest.mark.parametrize("name", comparison_names())
def test_a_comparison_holds_what_every_method_has_and_several_jobs_use_it(name):
    content = read_comparison(name)
    assert set(content) == {"description", "set"}
    assert {key.split(".")[0] for key in content["set"]} <= {field.name for field in fields(JobConfig)}
    used = [json.loads((path / "app/config/mucald.json").read_text()) for path in JOBS]
    assert sum(one.get("comparison") == name for one in used) > 1


def test_a_whole_configuration_needs_no_base(tmp_path):
    (tmp_path / "mucald.json").write_text(json.dumps(CONTENT))
    assert load_config(tmp_path).name == "tiny"


@pytest.mark.parametrize("name", base_names())
def test_every_base_is_whole_reads_back_and_is_of_its_family(name):
    content = load_base(name).to_dict()
    family, _, file = name.partition("/")
    assert (content["method"], content["name"]) == (family, file)
    assert parse_config(content).to_dict() == content


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_base_and_every_base_a_job(family):
    of_family = {name for name in base_names() if name.startswith(f"{family}/")}
    used = {json.loads((path / "app/config/mucald.json").read_text())["base"] for path in JOBS}
    assert of_family
    assert of_family <= used


def test_the_bases_travel_with_the_package():
    for name in base_names():
        family, _, file = name.partition("/")
        assert (resources.files("mucald.methods") / family / "bases" / f"{file}.json").is_file()


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_the_differences_from_any_base_of_the_method_make_the_job_again(path):
    content = resolved(path)
    for name in base_names():
        base = load_base(name).to_dict()
        if base["method"] == content["method"]:
            assert overridden(base, differences(base, content)) == content, name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (job("split/mucald_frsh"), r"unknown base 'split/mucald_frsh'; did you mean 'split/mucald_fresh'\?"),
        (job("mucald"), r"unknown base 'mucald'.*\(known: generative/dpcvae, pooled/centralized, "),
        (job("../split/mucald"), "unknown base '../split/mucald'"),
        (job("split/../split/mucald"), "unknown base 'split/../split/mucald'"),
        (job("/etc/passwd"), "unknown base '/etc/passwd'"),
        (job("split/"), "unknown base 'split/'"),
        (job(""), "unknown base ''"),
        (job(None), "unknown base 'None'"),
        (job(["split/mucald"]), "unknown base"),
        ({"base": "split/mucald", "description": "x"}, "missing key 'name'; a job does not take it"),
        ({"base": "split/mucald", "name": "x"}, "missing key 'description'; a job does not take it"),
        (job(name="a/b"), "name must consist of letters"),
        (job(sett={}), "unknown key 'sett'; did you mean 'set'.*base, comparison, name, description, set"),
        (job(comparison="consortum"), r"unknown comparison 'consortum'; did you mean 'consortium'\?"),
        (job(comparison=None), r"unknown comparison 'None' \(known: consortium\)"),
        (job(release={"t": 3}), "unknown key 'release'.*values go into 'set'"),
        (job(set=[]), "'set' must be an object of dotted keys"),
        (job(set=None), "'set' must be an object of dotted keys"),
        (job(set={"method": "pooled"}), "'set' cannot change 'method'"),
        (job(set={"name": "other"}), "'set' cannot change 'name'"),
        (job(set={"daca.step": 3}), r"there is no key 'daca.step'; did you mean 'daca.steps'\?"),
        (job(set={"daca": {"step": 3}}), r"there is no key 'daca.step'; did you mean 'daca.steps'\?"),
        (job(set={"release": 3}), "'release' must be an object, not 3"),
        (job(set={"release.t": "x"}), "'release.t' must be of type int"),
        (job(set={"release.t": 400}), r"'release': t must lie in \[0, 399\]"),
        (job(set={"algorithm": {"name": "fedem", "arg": {}}}), "unknown key 'algorithm.arg'; did you mean"),
        (job(set={"participant": "x"}), "'participant' is one of the method pooled, but this job .* 'split'"),
        (
            job("pooled/centralized", set={"release.noised": False}),
            "the key 'release.noised' is one of the method split, but this job has the method 'pooled'",
        ),
        (
            job("pooled/centralized", set={"release": {"noised": False}}),
            "the key 'release' is one of the method split",
        ),
        (
            job("pooled/centralized", set={"optimiser.segmentation": 0.1}),
            "the key 'optimiser.segmentation' is one of the method split",
        ),
        (CONTENT | {"participant": "x"}, "the key 'participant' is one of the method pooled"),
        (CONTENT | {"method": "splt"}, r"unknown method 'splt'; did you mean 'split'\?"),
        ({"name": "x"}, "missing key 'method' or 'base'"),
    ],
)
def test_what_is_wrong_is_named(content, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(content)


def test_bases_that_lead_back_to_themselves_are_refused(tmp_path, monkeypatch):
    for name, base in (("itself", "split/itself"), ("one", "split/other"), ("other", "split/one")):
        (tmp_path / f"{name}.json").write_text(json.dumps(job(base)))
    monkeypatch.setattr(mucald.methods.jobs, "_bases", lambda _: tmp_path)
    with pytest.raises(ConfigError, match="'split/itself' leads back to itself: split/itself → split/itself"):
        load_base("split/itself")
    with pytest.raises(ConfigError, match="split/one → split/other → split/one"):
        parse_config(job("split/one"))
