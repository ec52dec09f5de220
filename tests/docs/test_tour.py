"""The tour of one training step names the functions in the order in which they are called."""

import re
import sys
from pathlib import Path
from types import FrameType

import pytest
from tiny_job import REPOSITORY, Federation, tiny_config

import mucald

PACKAGE = Path(mucald.__file__).parent
START = "FreshReleases._step"


@pytest.fixture(scope="module")
def called(tmp_path_factory) -> dict[str, str]:
    """Return the functions of one step in the order of their first calls, each with its file."""
    steps: list[dict[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(PACKAGE)):
            return
        if code.co_qualname == START:
            steps.append({})
        if steps:
            steps[-1].setdefault(code.co_qualname, str(Path(code.co_filename).relative_to(PACKAGE)))

    federation = Federation(tiny_config(), tmp_path_factory.mktemp("tour"))
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        federation.run(1)
    finally:
        sys.setprofile(before)
    return steps[0]


def test_the_functions_are_called_in_the_order_of_the_tour(called):
    text = (REPOSITORY / "docs/tour.md").read_text(encoding="utf-8")
    stops = re.findall(r"(?m)^\d+\. `([\w.]+)` \(`([\w./]+)`\)", text)
    assert len(stops) == len(re.findall(r"(?m)^\d+\. ", text)) > 20
    order = {name: place for place, name in enumerate(called)}
    places = [order[name] for name, _ in stops]
    assert places == sorted(places), [name for name, _ in stops]
    for name, file in stops:
        assert called[name].endswith(file), name
