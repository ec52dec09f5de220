import pytest
from tiny_job import tiny_config

from mucald.errors import ConfigError
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.algorithms.fedrep import FedRep


def test_head_epochs_come_first_and_the_passes_over_the_data_stay_as_many():
    assert FedRep(head_epochs=2).parts(5) == ("head", "head", "body", "body", "body")


def test_without_head_epochs_all_learn_together():
    assert FedRep(head_epochs=0).parts(2) == ("all", "all")


@pytest.mark.parametrize("head_epochs", [2, 3])
def test_head_epochs_that_leave_none_for_the_body_are_refused(head_epochs):
    algorithm = {"name": "fedrep", "args": {"head_epochs": head_epochs}}
    with pytest.raises(
        ConfigError, match=r"'algorithm.args.head_epochs' is \d, .* 'training.local_epochs', 2"
    ):
        algorithm_of(tiny_config(algorithm=algorithm, training={"local_epochs": 2}))


def test_negative_head_epochs_are_refused():
    with pytest.raises(ConfigError, match=r"'algorithm.args': head_epochs must not be negative"):
        algorithm_of(tiny_config(algorithm={"name": "fedrep", "args": {"head_epochs": -1}}))
