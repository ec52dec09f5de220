import numpy as np

from mucald.data.measures import training_statistics


def test_statistics_skip_undefined_values_and_zero_constant_columns() -> None:
    nan = np.nan
    values = np.array(
        [[1.0, 0.1, nan, nan], [2.0, 0.1, 5.0, nan], [nan, 0.1, nan, nan], [6.0, 0.1, nan, nan]]
    )
    mean, deviation = training_statistics(values)
    assert np.allclose(mean, [3, 0.1, 5, 0])
    assert np.allclose(deviation, [np.std([1, 2, 6], ddof=1), 0, 0, 0])
