import pytest

from mucald.errors import WorkspaceError
from mucald.home import HOME_VARIABLE, beside, participant_home


def test_the_variable_wins_over_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    assert participant_home(tmp_path / "default", "north") == tmp_path / "default"
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "homes"))
    assert participant_home(tmp_path / "default", "north") == tmp_path / "homes" / "north"
    monkeypatch.setenv(HOME_VARIABLE, "")
    assert participant_home(tmp_path / "default", "north") == tmp_path / "default"


def test_a_relative_variable_does_not_depend_on_the_folder_of_a_later_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, "homes")
    assert participant_home(tmp_path, "north") == tmp_path / "homes" / "north"


def test_the_default_lies_beside_the_workspace_and_apart_for_each_participant(tmp_path):
    north, south = (beside(tmp_path / "workspace", name) for name in ("north", "south"))
    assert north != south
    assert tmp_path / "workspace" not in north.parents
    assert north.is_relative_to(tmp_path)


def test_a_tilde_stands_for_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(HOME_VARIABLE, "~/homes")
    assert participant_home(tmp_path / "default", "north") == tmp_path / "homes" / "north"
    monkeypatch.setenv(HOME_VARIABLE, "~nobody-of-that-name/homes")
    with pytest.raises(WorkspaceError, match="MUCALD_HOME=~nobody-of-that-name/homes"):
        participant_home(tmp_path, "north")
