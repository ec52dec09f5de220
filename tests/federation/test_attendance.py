import pytest
from tiny_job import Clock

from mucald.federation.attendance import Attendance

SITES = ["north", "south", "west"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attendance(clock: Clock) -> Attendance:
    opened = Attendance(10, clock)
    opened.begin(SITES)
    return opened


def test_a_site_that_has_not_stepped_for_the_whole_time_is_overdue_and_the_reason_says_so(attendance, clock):
    for site in SITES:
        attendance.step(site)
    clock.now += 6
    attendance.step("north")
    attendance.step("west")
    clock.now += 3.9
    assert attendance.overdue() == {}
    clock.now += 0.2
    assert attendance.overdue() == {"south": "it has not stepped for 10 s (runtime.stall_timeout_s)"}


def test_a_site_that_is_slow_but_steps_is_never_overdue(attendance, clock):
    for _ in range(50):
        clock.now += 9.9
        assert attendance.overdue() == {}
        for site in SITES:
            attendance.step(site)


def test_a_site_that_waits_for_its_turn_is_not_overdue_as_long_as_another_steps(attendance, clock):
    for _ in range(5):
        attendance.step("north")
        clock.now += 9
        assert attendance.overdue() == {}
    attendance.answer("north")
    clock.now += 1
    assert set(attendance.overdue()) == {"south", "west"}


def test_a_site_that_has_answered_is_not_overdue(attendance, clock):
    assert attendance.answer("south")
    clock.now += 100
    assert set(attendance.overdue()) == {"north", "west"}


def test_only_the_first_answer_counts(attendance):
    assert attendance.answer("south")
    assert not attendance.answer("south")
    assert not attendance.answer("stranger")
    assert attendance.awaited == ["north", "west"]
    attendance.begin(SITES)
    assert attendance.answer("south")


def leave_out_south(attendance: Attendance, clock: Clock) -> None:
    clock.now += 8
    attendance.step("north")
    attendance.step("west")
    attendance.step("south")
    clock.now += 9
    attendance.step("north")
    attendance.step("west")
    clock.now += 2
    assert list(attendance.overdue()) == ["south"]
    attendance.answer("south")
    attendance.begin(SITES)


def test_an_absent_site_is_waited_for_no_longer_than_the_others(attendance, clock):
    leave_out_south(attendance, clock)
    attendance.answer("north")
    assert attendance.overdue() == {}
    attendance.answer("west")
    assert attendance.overdue() == {"south": "it has not stepped since an earlier round"}


@pytest.mark.parametrize("sign", ["step", "show"])
def test_an_absent_site_that_shows_itself_is_waited_for_again(sign, attendance, clock):
    leave_out_south(attendance, clock)
    getattr(attendance, sign)("south")
    attendance.answer("north")
    attendance.answer("west")
    clock.now += 9.9
    assert attendance.overdue() == {}
    clock.now += 0.2
    assert list(attendance.overdue()) == ["south"]


def test_refused_messages_do_not_keep_a_site_present(attendance, clock):
    attendance.step("south")
    for _ in range(3):
        clock.now += 3
        attendance.step("north")
        attendance.step("west")
        attendance.show("south")
    clock.now += 2
    assert list(attendance.overdue()) == ["south"]


def test_with_a_timeout_of_zero_every_site_is_waited_for(clock):
    attendance = Attendance(0, clock)
    attendance.begin(SITES)
    clock.now += 1e9
    assert attendance.overdue() == {}
    assert attendance.awaited == SITES
