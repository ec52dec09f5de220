import pytest
from tiny_job import PLAIN, tiny_config

from mucald.errors import ConfigError
from mucald.methods.split.algorithms import algorithm_of

FEDEM = {"algorithm": {"name": "fedem", "args": {"components": 2}}}
PARTS = {
    "crdm.encoder": ({"crdm": {"encoder": "scm"}}, '"none"'),
    "crdm.denoiser": ({"crdm": {"denoiser": True}}, "false"),
    "daca.enabled": ({"daca": {"enabled": True}}, "false"),
}


@pytest.mark.parametrize(("field", "part"), PARTS.items(), ids=PARTS.keys())
def test_what_comes_behind_the_middle_network_is_refused(field, part):
    change, value = part
    with pytest.raises(ConfigError, match=f"'{field}' must be {value} with the algorithm fedem"):
        algorithm_of(tiny_config(PLAIN, FEDEM, change))


def test_one_component_goes_with_everything():
    assert algorithm_of(tiny_config(algorithm={"name": "fedem", "args": {"components": 1}})).n_components == 1


def test_no_component_is_refused():
    with pytest.raises(ConfigError, match=r"'algorithm.args': components must be at least 1"):
        algorithm_of(tiny_config(PLAIN, algorithm={"name": "fedem", "args": {"components": 0}}))
