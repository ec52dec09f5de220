import copy
import json
import math

import pytest

from mucald.errors import WireError
from mucald.federation.report import check_report, check_reports


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
        check_report(report, report["site"], report["round"])
        assert json.dumps(report) == before


@pytest.mark.parametrize("report", [None, [], "report", 7])
def test_what_is_no_report_is_refused(report):
    with pytest.raises(WireError, match="site 'north' sent no report"):
        check_report(report, "north", 1)


def test_a_report_is_of_its_sender_and_of_this_round(train):
    with pytest.raises(WireError, match="of another site or round"):
        check_report(train, "south", 1)
    with pytest.raises(WireError, match="of another site or round"):
        check_report(train, "north", 0)


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
        check_report(train, "north", 1)


@pytest.mark.parametrize(
    "key", ["site", "task", "source", "round", "n_test", "wire", "seconds", "losses", "steps"]
)
def test_a_missing_part_is_named(train, key):
    del train[key]
    with pytest.raises(WireError, match=f"lacks '{key}'"):
        check_report(train, "north", 1)


def test_a_test_report_may_leave_a_score_unknown_but_not_out(test_report):
    test_report["test"]["hd95"] = None
    test_report["validation"]["dice"] = None
    check_report(test_report, "north", 2)
    test_report["test"]["hd95"] = "far"
    with pytest.raises(WireError, match=r"'test\.hd95' .* is not a number"):
        check_report(test_report, "north", 2)
    del test_report["test"]["hd95"]
    with pytest.raises(WireError, match=r"lacks 'test\.hd95'"):
        check_report(test_report, "north", 2)


def test_a_participant_with_the_data_of_several_sites_sends_one_report_for_each():
    assert list(check_reports({"south": 2, "north": 1}, "pooled", ("north", "south")).items()) == [
        ("north", 1),
        ("south", 2),
    ]
    for wrong in (None, [], {"north": 1}, {"north": 1, "south": 2, "west": 3}):
        with pytest.raises(WireError, match="'pooled' did not send one report for each of north, south"):
            check_reports(wrong, "pooled", ("north", "south"))
