"""The table that a graph is learnt from: z-scored proxies, one complete row per training image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mucald.data.measures import training_statistics
from mucald.errors import DataError

Matrix = NDArray[np.float64]

# The usual rule of thumb for a regression: ten observations for each variable.
ROWS_PER_NODE = 10


@dataclass(frozen=True)
class Rows:
    """What is known of the nodes.

    Args:
        nodes: names of the columns.
        values: rows x nodes, z-scored over these rows; 0 throughout for a node that does not vary.
        total: number of rows before incomplete ones were left out.
        missing: how many of those lacked each node.
    """

    nodes: tuple[str, ...]
    values: Matrix
    total: int
    missing: dict[str, int]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def constant(self) -> tuple[str, ...]:
        """Nodes that do not vary, of which no edge can be learnt."""
        return tuple(node for node, column in zip(self.nodes, self.values.T, strict=True) if not column.any())


def complete_rows(nodes: tuple[str, ...], values: Matrix) -> Rows:
    """Leave out the rows that lack a value and z-score the others.

    Leaving out is unbiased where values are missing at random; imputing them would invent dependence.

    Args:
        nodes: names of the columns.
        values: rows x nodes, NaN where a value is missing; any scale.

    Raises:
        DataError: fewer than ten complete rows are left for each node.
    """
    defined = np.isfinite(values)
    complete = values[defined.all(axis=1)]
    missing = dict(zip(nodes, (~defined).sum(axis=0).tolist(), strict=True))
    needed = ROWS_PER_NODE * len(nodes)
    if len(complete) < needed:
        lacking = ", ".join(f"{node} in {count}" for node, count in missing.items() if count)
        raise DataError(
            f"{len(complete)} complete training rows, but a graph of {len(nodes)} nodes needs {needed}"
            + (f" (missing: {lacking} of {len(values)} rows)" if lacking else "")
            + f": {ROWS_PER_NODE} for each",
            public="too few complete rows to learn a graph from",
        )
    return Rows(nodes, standardise(complete), len(values), missing)


def standardise(values: Matrix) -> Matrix:
    """Z-score every column (ddof 1); one that does not vary becomes 0."""
    mean, deviation = training_statistics(values)
    return np.where(deviation > 0, (values - mean) / np.where(deviation > 0, deviation, 1), 0.0)
