import threading
import time
from types import SimpleNamespace

import pytest

from mucald_studies.benchmark.probing.parts import PARTS
from mucald_studies.benchmark.probing.probe import Ledger, Part, Probe


def make(**functions):
    return SimpleNamespace(**functions)


@pytest.fixture
def work():
    """A root that calls an inner function twice and takes time of its own."""

    def root(wanted=True):  # noqa: ARG001
        time.sleep(0.02)
        for _ in range(2):
            owner.inner()

    owner = make(root=root, inner=lambda: time.sleep(0.01))
    return owner


def parts(owner, **root):
    return [
        Part(owner, "root", "own", "site", root=True, **{"keep": lambda *_: True, **root}),
        Part(owner, "inner", "inner", counts=True),
    ]


def test_a_part_is_charged_with_its_own_time_alone(work):
    with Probe(parts(work)).installed() as ledger:
        work.root()
    found = ledger.of("site")
    assert found["own"] == pytest.approx(0.02, abs=0.015)
    assert found["inner"] >= 0.02
    assert ledger.steps == 2


def test_outside_a_root_nothing_is_timed(work):
    with Probe(parts(work)).installed() as ledger:
        work.inner()
    assert ledger == Ledger()


def test_a_root_of_no_interest_leaves_nothing(work):
    with Probe(parts(work, keep=lambda wanted: wanted)).installed() as ledger:
        work.root(False)
        assert sum(ledger.seconds.values()) == 0
        work.root(True)
    assert sum(ledger.seconds.values()) > 0


def test_the_functions_are_put_back_even_after_a_failure(work):
    before = work.inner
    with pytest.raises(ZeroDivisionError), Probe(parts(work)).installed():
        raise ZeroDivisionError
    assert work.inner is before


def test_a_function_belongs_to_the_side_that_calls_it():
    owner = make(shared=lambda: time.sleep(0.001), server=lambda: owner.shared(), site=lambda: owner.both())
    owner.both = lambda: (owner.shared(), owner.server())
    watched = [
        Part(owner, "site", "site's", "site", root=True, keep=lambda: True),
        Part(owner, "server", "server's", "server", root=True),
        Part(owner, "shared", "shared"),
    ]
    with Probe(watched).installed() as ledger:
        owner.site()
    both = {(side, part) for side in ("site", "server") for part in (f"{side}'s", "shared")}
    assert set(ledger.seconds) == both
    assert len(ledger.served) == 1


def test_threads_do_not_mix_and_time_at_work_counts_once():
    owner = make(serve=lambda: time.sleep(0.05))
    probe = Probe([Part(owner, "serve", "serve", "server", root=True, keep=lambda: True)])
    with probe.installed() as ledger:
        threads = [threading.Thread(target=owner.serve) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ledger.served) == 4
    span, busy = ledger.busy()
    assert busy <= span
    assert busy < ledger.seconds["server", "serve"]


def test_busy_time_is_the_union_of_the_intervals():
    assert Ledger(served=[(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (5.2, 5.5)]).busy() == (6.0, 4.0)
    assert Ledger().busy() == (0.0, 0.0)


def test_ledgers_of_processes_add_up():
    one, two = Ledger(steps=1), Ledger(steps=2, served=[(1.0, 2.0)])
    one.seconds["site", "data"], two.seconds["site", "data"] = 0.5, 0.25
    one.add(two.to_dict())
    assert (one.steps, one.seconds["site", "data"], one.served) == (3, 0.75, [(1.0, 2.0)])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.owner.__name__}.{part.name}")
def test_every_part_of_a_step_is_a_function_of_the_package(part):
    assert callable(getattr(part.owner, part.name))
