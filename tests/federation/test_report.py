import copy
import json
import math

import pytest

from mucald.errors import WireError
from mucald.federation.report import ReportField, check_report, check_reports
from mucald.methods.split.server.method import SplitServerMethod
from mucald.metrics.names import NAMES
from mucald.tasks import TASKS, Task

OWN = SplitServerMethod.report_fields


def check(report, site: str = "north", round_number: int = 1, task: str = "kvasir", own=OWN) -> None:
    check_report(report, site, round_number, task, own)


@pytest.fixture
def train(full) -> dict:
    return copy.deepcopy(next(r for r in full.reports if r["site"] == "north" and r["round"] == 1))


@pytest.fixture
def test_report(full) -> dict:
    return copy.deepcopy(next(r for r in full.reports if r["site"] == "north" and "test" in r))


def test_the_reports_of_a_run_pass_and_stay_as_they_are(full):
    assert len(full.reports) == 9
    for report in full.reports:
        before = json.dumps(report)
        task = "ham10k" if report["site"] == "south" else "kvasir"
        check(report, report["site"], report["round"], task)
        assert json.dumps(report) == before


@pytest.mark.parametrize("report", [None, [], "report", 7])
def test_what_is_no_report_is_refused(report):
    with pytest.raises(WireError, match="site 'north' sent no report"):
        check(report)


def test_a_report_is_of_its_sender_and_of_this_round(train):
    with pytest.raises(WireError, match="of another site or round"):
        check(train, "south")
    with pytest.raises(WireError, match="of another site or round"):
        check(train, round_number=0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["images"], [1], "unknown field 'images'"),
        (["test_secret"], "x", "unknown field"),
        (["n_train"], 0, "no training images"),
        (["n_train"], "4", "no training images"),
        (["seconds"], "1", "'seconds' in the report of site 'north' is not a number"),
        (["wire", "up"], "1", "'wire.up' .* is not a number"),
        (["wire", "down"], None, "'wire.down' .* is not a number"),
        (["wire"], 5, "lacks 'wire'"),
        (["losses"], {}, "lacks 'losses.segmentation'"),
        (["losses", "segmentation"], None, "'losses.segmentation' .* is not a number"),
        (["losses", "dice"], math.nan, "not finite"),
        (["gradients", "front_end"], math.inf, "not finite"),
        (["gradients", "front_end"], [1.0], "'gradients.front_end' .* is not a number"),
        (["gradients"], [1.0], "lacks 'gradients'"),
        (["validation"], {"dice": 0.5}, "lacks 'validation.best'"),
        (["validation", "loss"], -0.1, "'validation.loss' .* is negative"),
        (["validation", "loss"], None, "'validation.loss' .* is not a number"),
        (["validation", "dice"], "0.5", "'validation.dice' .* is not a number"),
        (["task"], "x" * 101, "a text of 101 characters"),
        (["task"], b"bytes", "holds a bytes"),
        (["losses", "x" * 101], 1.0, "a text of 101 characters"),
    ],
)
def test_what_does_not_belong_in_a_report_is_refused(train, path, value, message):
    part = train
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(WireError, match=message):
        check(train)


@pytest.mark.parametrize(
    "key", ["site", "task", "source", "round", "n_test", "wire", "seconds", "losses", "steps"]
)
def test_a_missing_part_is_named(train, key):
    del train[key]
    with pytest.raises(WireError, match=f"lacks '{key}'"):
        check(train)


def test_a_test_report_may_leave_a_score_unknown_but_not_out(test_report):
    test_report["test"]["hd95"] = None
    test_report["validation"]["dice"] = None
    check(test_report, round_number=2)
    test_report["test"]["hd95"] = "far"
    with pytest.raises(WireError, match=r"'test\.hd95' .* is not a number"):
        check(test_report, round_number=2)
    del test_report["test"]["hd95"]
    with pytest.raises(WireError, match=r"lacks 'test\.hd95'"):
        check(test_report, round_number=2)


def test_a_participant_with_the_data_of_several_sites_sends_one_report_for_each():
    assert list(check_reports({"south": 2, "north": 1}, "pooled", ("north", "south")).items()) == [
        ("north", 1),
        ("south", 2),
    ]
    for wrong in (None, [], {"north": 1}, {"north": 1, "south": 2, "west": 3}):
        with pytest.raises(WireError, match="'pooled' did not send one report for each of north, south"):
            check_reports(wrong, "pooled", ("north", "south"))


def test_a_report_is_of_the_task_that_the_job_gives_the_site(train):
    with pytest.raises(WireError, match="reports on 'kvasir', but the job gives it 'ham10k'"):
        check(train, task="ham10k")


@pytest.mark.parametrize(
    ("own", "field", "message"),
    [
        ({}, "pretraining", "unknown field 'pretraining'"),
        ({"pretraining": ReportField("test")}, "pretraining", "unknown field 'pretraining'"),
        (
            {"pretraining": ReportField("train"), "drift": ReportField("train")},
            "pretraining",
            "lacks 'drift'",
        ),
    ],
)
def test_what_a_method_reports_beside_is_what_it_declares(own, field, message, train):
    train[field] = {"epoch_1": 0.5}
    check(train)
    with pytest.raises(WireError, match=message):
        check(train, own=own)


def test_a_field_of_another_method_is_refused_in_a_test_too(test_report):
    check(test_report, round_number=2)
    with pytest.raises(WireError, match="unknown field 'server_contribution'"):
        check(test_report, round_number=2, own={})
    del test_report["server_contribution"]
    check(test_report, round_number=2, own={})
    with pytest.raises(WireError, match="lacks 'server_contribution'"):
        check(test_report, round_number=2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, None),
        (None, None),
        ({"epoch_1": 1.5}, None),
        ("case_0007.png", "'pretraining' in the report of site 'north' is not a number"),
        (["case_0007.png"], "'pretraining' in the report of site 'north' is not a number"),
        (True, "'pretraining' in the report of site 'north' is not a number"),
        ({"epoch_1": "case_0007.png"}, "'pretraining.epoch_1' in the report of site 'north' is not a number"),
        ({"epoch_1": {"more": 1.0}}, "'pretraining.epoch_1' in the report of site 'north' is not a number"),
        ({"epoch_1": math.nan}, "not finite"),
        (math.inf, "not finite"),
    ],
)
def test_what_a_method_reports_beside_is_a_number_or_an_object_of_such(value, message, train):
    train["pretraining"] = value
    if message is None:
        check(train)
        return
    with pytest.raises(WireError, match=message):
        check(train)


def test_a_site_that_classifies_reports_the_scores_of_its_target(train, test_report, monkeypatch):
    task, names = Task("ward", "Ward", ("ill", "well"), target="class"), NAMES["class"]
    monkeypatch.setitem(TASKS, task.name, task)
    for report in (train, test_report):
        report["task"] = "ward"
        report["validation"] = {"round": 0, "balanced_accuracy": 0.5, "loss": 1.0, "best": True}
    train["losses"] = {"classification": 0.7}
    check(train, task="ward")
    test_report["test"] = dict.fromkeys(names.metrics, 0.5)
    test_report["balanced_per_image"] = test_report.pop("dice_per_image")
    check(test_report, round_number=2, task="ward")
    del train["losses"]["classification"]
    with pytest.raises(WireError, match=r"lacks 'losses\.classification'"):
        check(train, task="ward")
    test_report["dice_per_image"] = [0.5]
    with pytest.raises(WireError, match="unknown field 'dice_per_image'"):
        check(test_report, round_number=2, task="ward")
