import numpy as np
import pytest

from mucald.errors import DataError
from mucald.randomness import generator
from mucald_studies.discovery.rows import ROWS_PER_NODE, complete_rows

NODES = ("a", "b")
NEEDED = ROWS_PER_NODE * len(NODES)


def table(count: int) -> np.ndarray:
    return generator("table").normal(5, 3, (count, 2))


def test_rows_that_lack_a_value_are_left_out_and_counted() -> None:
    values = table(NEEDED + 3)
    values[0, 0] = values[1, 1] = np.nan
    values[2] = np.nan
    rows = complete_rows(NODES, values)
    assert (len(rows), rows.total) == (NEEDED, NEEDED + 3)
    assert rows.missing == {"a": 2, "b": 2}
    # Z-scored over the rows that are left.
    kept = values[3:]
    assert rows.values == pytest.approx((kept - kept.mean(axis=0)) / kept.std(axis=0, ddof=1))
    assert rows.constant == ()


def test_too_few_rows_tells_how_many_are_needed_and_what_is_missing() -> None:
    values = table(NEEDED)
    values[4, 1] = np.nan
    with pytest.raises(
        DataError, match=r"19 complete .* 2 nodes needs 20 \(missing: b in 1 of 20 rows\)"
    ) as error:
        complete_rows(NODES, values)
    assert "b in" not in error.value.public
    assert len(complete_rows(NODES, table(NEEDED))) == NEEDED


def test_a_node_that_never_varies_is_named() -> None:
    values = table(NEEDED)
    values[:, 1] = 0.1
    rows = complete_rows(NODES, values)
    assert rows.constant == ("b",)
    assert not rows.values[:, 1].any()
