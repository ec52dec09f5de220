"""The channel against what FLARE offers, as ratios with wide margins, in one small pair of processes."""

import pytest

from mucald_studies.benchmark.wire import MEBI, WirePlan, measure, report

PLAN = WirePlan(
    ["embryo"],
    counts=(1,),
    sizes=(2 * MEBI,),
    seconds=0.3,
    repeats=3,
    carriers=("core_cell", "channel", "aux"),
)


@pytest.fixture(scope="module")
def rates():
    return measure(PLAN)


def test_the_channel_is_faster_than_flares_messages_of_tensors(rates):
    assert rates[1, 2 * MEBI, "channel"] >= 1.5 * rates[1, 2 * MEBI, "aux"]


def test_the_channel_costs_little_beside_the_bare_cell(rates):
    assert rates[1, 2 * MEBI, "channel"] >= 0.4 * rates[1, 2 * MEBI, "core_cell"]


def test_a_report_judges_the_sizes_that_have_limits(rates):
    result = report(PLAN, {"plain": rates})
    assert [check.name.split(": ")[1] for check in result.checks] == [
        "channel / FLARE aux, tensor",
        "channel / core cell",
    ]
    assert len(result.figures) == 3
    both_ways = result.figures[0]
    assert both_ways["mb_per_s"] == pytest.approx(both_ways["trips_per_s"] * 4 * MEBI / 1e6)
