import pytest

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
