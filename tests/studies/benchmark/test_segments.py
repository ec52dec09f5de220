import pytest
from tiny_job import REPOSITORY

from mucald.errors import ConfigError
from mucald_studies.benchmark.segments import PLAIN, WAYS, _cell, measure, report

JOB = REPOSITORY / "jobs/mucald"


def test_every_segment_is_timed_in_every_way():
    found = measure(JOB, {"runtime.device": "cpu"}, [32], repeats=2)
    ((device, by_size),) = found.items()
    assert device == "cpu"
    assert list(by_size[32]) == ["front end", "middle", "back end"]
    assert all(list(seconds) == list(WAYS) and min(seconds.values()) > 0 for seconds in by_size[32].values())
    result = report(found)
    (table,) = result.tables.values()
    assert [row[0] for row in table.rows] == ["front end", "middle", "back end"]
    assert list(table.columns[1:]) == list(WAYS)
    assert all(row[1 + list(WAYS).index(PLAIN)].endswith("(1.00)") for row in table.rows)


def test_the_ratio_is_to_the_plain_way():
    assert _cell(0.003, 0.002) == "3.00 (1.50)"


def test_a_side_that_the_network_cannot_take_is_refused():
    with pytest.raises(ConfigError, match="image_size"):
        measure(JOB, {}, [33])
