"""``docs/results.schema.json`` says what ``results.json`` holds, of every family of methods."""

import json
import re

import jsonschema
import pytest
from families import METHODS
from tiny_job import REPOSITORY, run_job

from mucald.methods.jobs import parse_config
from mucald.metrics.names import names_of
from mucald.results.results import SCHEMA
from mucald_studies.reporting.run_page import run_page
from mucald_studies.reporting.runs import Run

DESCRIBED = json.loads((REPOSITORY / "docs/results.schema.json").read_text(encoding="utf-8"))


def test_the_schema_is_one_and_has_the_number_that_is_written():
    jsonschema.Draft202012Validator.check_schema(DESCRIBED)
    assert DESCRIBED["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize(
    "name", ["split hand-over", "weights fedavg", "weights volumes", "generative cvae", "pooled"]
)
def test_what_a_run_writes_fits_the_schema_and_can_be_shown(name, tmp_path):
    run = run_job(parse_config(METHODS[name]), tmp_path)
    jsonschema.validate(run.results, DESCRIBED)
    page = run_page(Run(tmp_path / "results/server/results.json", run.results)).markdown()
    for site, entry in run.results["sites"].items():
        (row,) = re.findall(rf"(?m)^\| {site} \| {entry['task']} \|.*$", page)
        assert f"{entry['test'][names_of(entry['task']).primary]:.3f}" in row


@pytest.mark.parametrize(
    ("place", "value"),
    [(("wire", "bytes_up"), -1), (("schema",), 1), (("sites", "north", "test"), {}), (("extra",), 0)],
)
def test_what_does_not_fit_is_told(place, value, full):
    content = json.loads(json.dumps(full.run.results))
    jsonschema.validate(content, DESCRIBED)
    *folders, last = place
    inner = content
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, DESCRIBED)
