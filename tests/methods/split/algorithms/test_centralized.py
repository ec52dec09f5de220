import pytest
from tiny_job import PLAIN, run_job, tiny_config

from mucald.errors import ConfigError
from mucald.methods.split.algorithms import make_algorithm, participants

POOLED = {"algorithm": {"name": "centralized", "args": {"site": "pooled"}}, "min_sites": 1}


def test_one_participant_takes_the_place_of_the_sites():
    assert participants(tiny_config(PLAIN, POOLED)) == ["pooled"]
    assert participants(tiny_config(PLAIN)) == ["north", "south", "west"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"release": {"noised": True}}, "set release.noised to false"),
        ({"crdm": {"encoder": "plain"}}, 'set crdm.encoder to "none"'),
        ({"crdm": {"denoiser": True}}, "set crdm.denoiser to false"),
        ({"daca": {"enabled": True}}, "set daca.enabled to false"),
        ({"losses": {"proximal": 0.1}}, "set losses.proximal to 0.0"),
    ],
)
def test_what_acts_on_the_wire_or_on_copies_is_refused(change, named, tmp_path):
    config = tiny_config(PLAIN, POOLED, change)
    with pytest.raises(ConfigError, match=f"nothing is sent; {named}"):
        make_algorithm(config.algorithm).check(config)
    with pytest.raises(ConfigError, match=f"nothing is sent; {named}"):
        run_job(config, tmp_path)


def test_another_participant_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="only 'pooled' takes part, not north, south; name it alone"):
        run_job(tiny_config(PLAIN, POOLED), tmp_path, sites=["north", "south"])


def test_the_participant_must_be_named():
    config = tiny_config(PLAIN, POOLED, algorithm={"args": {"site": 3}})
    with pytest.raises(ConfigError, match=r"'algorithm\.args\.site' must be of type str"):
        make_algorithm(config.algorithm)
