import pytest
from attacked import ONCE, Heard, heard_run
from tiny_job import EXACT_WIRE


@pytest.fixture(scope="session")
def noised(tmp_path_factory) -> Heard:
    """The full method."""
    return heard_run(tmp_path_factory.mktemp("noised"))


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Heard:
    """No noise, the paper's cut, and numbers that cross as they are."""
    return heard_run(
        tmp_path_factory.mktemp("clean"), release={"noised": False}, network={"cut": 0}, wire=EXACT_WIRE
    )


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Heard:
    """Every image crosses a single time, from a front end at rest."""
    return heard_run(
        tmp_path_factory.mktemp("once"),
        ONCE,
        training={"rounds": 2, "local_epochs": 2},
    )


@pytest.fixture(scope="session")
def epsilon(tmp_path_factory) -> Heard:
    """The noise crosses."""
    return heard_run(tmp_path_factory.mktemp("epsilon"), crdm={"supervision": "epsilon"}, wire=EXACT_WIRE)
