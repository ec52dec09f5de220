"""The ledger of what images have given away."""

import hashlib
import json
import math
import subprocess
import sys
from functools import partial

import pytest

from mucald.errors import DataError, PolicyError
from mucald.privacy.dp.ledger import LEDGER_FILE, SETS_FOLDER, Ledger, Plan
from mucald.privacy.gaussian import epsilon, mu_of

DELTA = 1e-4
MU = mu_of(1.0, DELTA)


def images(*numbers: int) -> list[bytes]:
    return [hashlib.sha256(bytes([number])).digest()[:16] for number in numbers]


def plan(run: str = "run", used: list[bytes] | None = None, releases: int = 10, mu: float = MU) -> Plan:
    return Plan(run, "job", used or images(1, 2, 3), mu, releases)


def test_jobs_add_up_exactly_where_they_share_an_image_and_not_otherwise(tmp_path):
    ledger = Ledger(tmp_path, "north")
    assert ledger.reserve(plan("a"), None, DELTA) == pytest.approx(1.0, rel=1e-6)
    assert ledger.reserve(plan("b", images(3, 4)), None, DELTA) == pytest.approx(
        epsilon(math.sqrt(2) * MU, DELTA)
    )
    assert ledger.reserve(plan("c", images(5, 6)), None, DELTA) == pytest.approx(1.0, rel=1e-6)
    three = ledger.reserve(plan("d", images(3)), None, DELTA)
    assert three == pytest.approx(epsilon(math.sqrt(3) * MU, DELTA))


def test_a_run_that_goes_on_is_entered_once_and_only_with_the_same_images_and_schedule(tmp_path):
    ledger = Ledger(tmp_path, "north")
    for _ in range(3):
        assert ledger.reserve(plan(), 1.0, DELTA) == pytest.approx(1.0, rel=1e-6)
    assert len((tmp_path / LEDGER_FILE).read_text().splitlines()) == 1
    for other in (plan(used=images(1)), plan(releases=11)):
        with pytest.raises(PolicyError, match="began with other images or another schedule"):
            ledger.reserve(other, None, DELTA)


def test_what_exceeds_the_total_is_refused_with_the_numbers_and_leaves_no_entry(tmp_path):
    ledger = Ledger(tmp_path, "north")
    ledger.reserve(plan("a"), 1.2, DELTA)
    before = (tmp_path / LEDGER_FILE).read_bytes()
    with pytest.raises(
        PolicyError, match=r"spent ε = 1 .*would make it 1\.482.*max_total_epsilon is 1\.2"
    ) as raised:
        ledger.reserve(plan("b"), 1.2, DELTA)
    assert raised.value.public == str(raised.value)
    assert (tmp_path / LEDGER_FILE).read_bytes() == before
    ledger.reserve(plan("c", images(9)), 1.2, DELTA)


def test_no_more_releases_than_planned_however_often_a_server_asks(tmp_path):
    ledger, own = Ledger(tmp_path, "north"), plan(releases=10)
    with pytest.raises(PolicyError, match="budget of run run is spent"):
        ledger.spend(own, "first", 4)
    ledger.reserve(own, None, DELTA)
    ledger.spend(own, "first", 4)
    ledger.spend(own, "first", 4)
    ledger.spend(own, "asked again with other weights", 4)
    with pytest.raises(PolicyError, match="8 of 10 noised steps are done, and 4 more are asked for"):
        Ledger(tmp_path, "north").spend(own, "third", 4)
    Ledger(tmp_path, "north").spend(own, "third", 2)
    ledger.reserve(other := plan("another", releases=4), None, DELTA)
    ledger.spend(other, "third", 4)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def _changed(path):
    path.write_bytes(path.read_bytes().replace(b'"count": 4', b'"count": 1'))


def _lost(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))


def _nonsense(path):
    path.write_bytes(path.read_bytes() + b"{}\n")


def _last(path, **changes):
    """Change the last entry, which no other names by its hash."""
    *others, last = path.read_text().splitlines()
    path.write_text("\n".join([*others, json.dumps(json.loads(last) | changes)]) + "\n")


def _nested(path):
    path.write_bytes(path.read_bytes() + b"[" * 100_000 + b"\n")


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _changed,
        _lost,
        _nonsense,
        _nested,
        partial(_last, count=-4),
        partial(_last, count=0),
        partial(_last, count=True),
        partial(_last, note="an unknown key"),
        partial(_last, kind="job"),
        partial(_last, kind=["releases"]),
    ],
)
def test_a_damaged_ledger_lets_nothing_begin_and_says_what_to_do(damage, tmp_path):
    ledger = Ledger(tmp_path, "north")
    ledger.reserve(plan(), None, DELTA)
    for number in range(2):
        ledger.spend(plan(), f"{number}", 4)
    damage(tmp_path / LEDGER_FILE)
    for action in (lambda: ledger.reserve(plan("b"), None, DELTA), lambda: ledger.spend(plan(), "x", 1)):
        with pytest.raises(DataError, match=r"restored from a backup.*do not delete") as raised:
            action()
        assert raised.value.public == "the privacy ledger of site 'north' is damaged"


@pytest.mark.parametrize("mu", [-1.0, 0.0, math.nan, math.inf])
def test_a_budget_that_is_negative_or_no_number_is_damage(mu, tmp_path):
    Ledger(tmp_path, "north").reserve(plan(), None, DELTA)
    _last(tmp_path / LEDGER_FILE, mu=mu)
    with pytest.raises(DataError, match="line 1 is not as it was written"):
        Ledger(tmp_path, "north").reserve(plan("b"), 1.2, DELTA)


def test_a_list_of_images_that_is_missing_or_changed_is_found(tmp_path):
    ledger = Ledger(tmp_path, "north")
    ledger.reserve(plan(), None, DELTA)
    (path,) = (tmp_path / SETS_FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[16:])
    with pytest.raises(DataError, match="lists the images of job 'job'"):
        ledger.reserve(plan("b"), None, DELTA)


PROGRAM = """
import sys
from pathlib import Path
from mucald.errors import PolicyError
from mucald.privacy.dp.ledger import Ledger, Plan
from mucald.privacy.gaussian import mu_of
ledger, own = Ledger(Path(sys.argv[1]), "north"), Plan(sys.argv[2], "job", [bytes(16)], mu_of(1.0, 1e-4), 1)
try:
    ledger.reserve(own, 1.6, 1e-4)
    print("begins")
except PolicyError:
    print("refused")
"""


def test_of_jobs_that_begin_at_once_no_more_begin_than_the_total_allows(tmp_path):
    allowed = next(n for n in range(1, 20) if epsilon(math.sqrt(n + 1) * MU, DELTA) > 1.6)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    started = [subprocess.Popen([*command, f"run-{n}"], stdout=subprocess.PIPE, text=True) for n in range(4)]
    outputs = [process.communicate()[0].strip() for process in started]
    assert allowed == 2
    assert sorted(outputs) == ["begins"] * allowed + ["refused"] * (4 - allowed)
