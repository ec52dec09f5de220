import pytest

from mucald.console import clock
from mucald.federation import progress
from mucald.federation.progress import Progress
from mucald.tasks import TASKS, Task


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (725, "12:05"), (3600, "1:00:00"), (7265, "2:01:05")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


class Time:
    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch) -> Time:
    time = Time()
    monkeypatch.setattr(progress, "time", time)
    return time


def train(round_number: int, dice: float | None = None) -> dict:
    report = {"site": "north", "task": "kvasir", "round": round_number, "losses": {"segmentation": 1.2345}}
    return report if round_number == 0 else report | {"validation": {"dice": dice}}


def test_a_line_names_site_round_loss_dice_and_times(time):
    lines = Progress(rounds=4)
    time.now += 10
    line = lines.line(train(0))
    assert line.startswith("round 1/4 north")
    assert "loss 1.234" in line
    assert "first round" in line
    assert line.endswith("| 0:10 passed")
    lines.end_round()
    time.now += 20
    line = lines.line(train(1, 0.5))
    assert "validation Dice 0.500" in line
    assert "validation Dice -" in lines.line(train(1, None))


def test_rounds_are_counted_by_their_own_times_without_what_comes_before_them(time):
    lines = Progress(rounds=4)
    time.now += 300  # pre-training, and the first round
    lines.end_round()
    time.now += 20
    assert lines.line(train(1, 0.5)).endswith("| 5:20 passed")
    lines.end_round()
    time.now += 5
    assert lines.line(train(2, 0.5)).endswith("| 5:25 passed, about 0:35 to the test")
    time.now += 25
    lines.end_round()
    # Rounds of 20 and 30 s: the last takes about 25.
    time.now += 10
    assert lines.line(train(3, 0.5)).endswith("| 6:00 passed, about 0:15 to the test")
    time.now += 60
    assert lines.line(train(3, 0.5)).endswith("| 7:00 passed, about 0:00 to the test")


def test_the_last_line_tells_the_test_dice(time):
    lines = Progress(rounds=2)
    time.now += 65
    line = lines.line({"site": "north", "task": "kvasir", "round": 2, "test": {"dice": 0.75}})
    assert line.startswith("test      north")
    assert "test Dice 0.750" in line
    assert line.endswith("| 1:05 passed")


def test_a_site_that_classifies_tells_its_own_loss_and_score(time, monkeypatch):
    task = Task("ward", "Ward", ("ill", "well"), target="class")
    monkeypatch.setitem(TASKS, task.name, task)
    lines = Progress(rounds=2)
    time.now += 1
    report = {"site": "north", "task": "ward", "round": 1, "losses": {"classification": 0.5}}
    line = lines.line(report | {"validation": {"balanced_accuracy": 0.75}})
    assert "loss 0.500  validation Balanced accuracy 0.750" in line
    line = lines.line({"site": "north", "task": "ward", "round": 2, "test": {"balanced_accuracy": None}})
    assert "test Balanced accuracy -" in line
