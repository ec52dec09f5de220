import pytest

from mucald.data.images.phantoms import PHANTOMS
from mucald.errors import ConfigError
from mucald.tasks import TASKS, Task, get_task


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_registry_is_consistent(task: Task) -> None:
    assert TASKS[task.name] is task
    assert len(set(task.classes)) == task.n_classes
    assert task.target != "mask" or task.classes[0] == "background"


def test_unknown_task_names_the_closest_and_all_known() -> None:
    with pytest.raises(ConfigError, match=r"'kvasr'; did you mean 'kvasir'\?.*blastocyst.*fetal_head"):
        get_task("kvasr")


@pytest.mark.parametrize(
    ("said", "meant"), [("polyp", "kvasir"), ("polyps", "kvasir"), ("covid", "mosmed"), ("Skin", "ham10k")]
)
def test_a_word_of_what_a_task_is_about_leads_to_it(said, meant) -> None:
    with pytest.raises(ConfigError, match=f"unknown task '{said}'; did you mean '{meant}' \\("):
        get_task(said)


def test_words_without_a_meaning_lead_nowhere() -> None:
    for said in ("and", "of"):
        with pytest.raises(ConfigError) as refused:
            get_task(said)
        assert "did you mean" not in str(refused.value)


def test_every_phantom_is_a_kind_of_phantom() -> None:
    assert get_task("phantom_kind").classes == tuple(PHANTOMS)
