"""A method that discloses something new: a policy that does not name it refuses before anything leaves."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_job import PLAIN, tiny_config, write_policy

from mucald.errors import TrainingError
from mucald.federation.in_process import run_in_process
from mucald.federation.method import Notes, Outcome, Send, ServerMethod, State
from mucald.federation.report import ReportField
from mucald.federation.task import SiteTask
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.family import SplitFamily
from mucald.metrics.names import NAMES
from mucald.privacy import disclosure
from mucald.privacy.disclosure import SCORES, Disclosure, Kind, Limit
from mucald.privacy.policy import OPEN, TO_ALLOW
from mucald.wire.traffic import Traffic

NEW = "synthetic images"
SITES = ("north", "south", "west")


@dataclass
class Wire:
    """What left each site."""

    requests: list[str] = field(default_factory=list)
    payloads: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)


class Server(ServerMethod):
    report_fields: ClassVar = {"drawn": ReportField("train")}

    def __init__(self, wire: Wire):
        self._wire = wire

    def handle(self, site: str, *_: Any) -> bytes:
        self._wire.requests.append(site)
        return b"thanks"

    def receive(self, site: str, *_: Any) -> Notes:
        self._wire.payloads.append(site)
        return Notes()


class Site:
    """Sends a picture with every task, and a message before it."""

    def __init__(self, name: str, task: str):
        self.name, self._task = name, task

    def run(self, task: SiteTask, _: State, send: Send) -> Outcome:
        assert send(b"here comes a picture") == b"thanks"
        report = {"site": self.name, "task": self._task, "source": "drawn", "round": task.round}
        report |= {"n_train": 1, "n_validation": 0, "n_test": 0, "wire": asdict(Traffic()), "seconds": 0.1}
        if task.kind == "train":
            losses = {"segmentation": 1.0}
            report |= {"losses": losses, "gradients": {}, "steps": 1, "drawn": {"pictures": 1}}
        else:
            report |= {"test": dict.fromkeys(NAMES["mask"].metrics, 0.5), "dice_per_image": []}
        return Outcome({self.name: report}, {"synthetic": torch.zeros(3, 8, 8)})

    def tested(self) -> list[Any]:
        return []

    def account(self) -> None:
        return None


class Family(SplitFamily):
    """Split learning's configuration, and a method of its own."""

    def __init__(self) -> None:
        self.wire = Wire()

    def server(self, *_: Any) -> ServerMethod:
        return Server(self.wire)

    def site(self, name: str, config: SplitConfig, *_: Any) -> Site:
        self.wire.built.append(name)
        return Site(name, config.site(name).task)

    def disclosures(self, *_: Any) -> list[Disclosure]:
        return [SCORES, Disclosure(NEW, "in every round", "none", {"resolution": 8}, {}, ("They leave.",))]


def run(family: Family, folder: Path) -> dict[str, Any]:
    config = tiny_config(PLAIN, training={"rounds": 1})
    return run_in_process(family, config, SITES, folder / "out", lambda name: folder / "home" / name, 1)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let policies name it."""
    kind = Kind("drawn by a model of the site's", {"max_resolution": Limit("pixels")})
    monkeypatch.setitem(disclosure.KINDS, NEW, kind)


def allow(home: Path, resolution: int | None) -> None:
    write_policy(home, discloses=OPEN.discloses | {NEW: {"max_resolution": resolution}})


def test_what_no_policy_can_name_leaves_no_site(tmp_path, caplog):
    """Not even one with phantoms alone, which allows all that is known."""
    family = Family()
    with pytest.raises(TrainingError, match="0 sites finished round 1"):
        run(family, tmp_path)
    for site in SITES:
        reason = f"site '{site}' refuses by its policy.json: {NEW} may not leave"
        assert reason in caplog.text
    assert family.wire == Wire()
    assert [path.parent.name for path in (tmp_path / "home").glob("*/runs")] == ["server"]


@pytest.mark.usefixtures("judged")
def test_where_it_can_be_named_it_leaves_those_sites_that_name_it(tmp_path):
    allow(tmp_path / "home/north", 8)
    allow(tmp_path / "home/west", None)
    write_policy(tmp_path / "home/south")
    family = Family()
    results = run(family, tmp_path)
    wire = family.wire
    assert set(wire.requests) == set(wire.payloads) == set(wire.built) == {"north", "west"}
    refusal = f"site 'south' refuses by its policy.json: {NEW} may not leave; {TO_ALLOW}"
    assert results["failures"] == [{"site": "south", "round": n, "reason": refusal} for n in range(2)]
    assert sorted(results["sites"]) == ["north", "west"]
    assert results["rounds"][0]["sites"]["north"]["drawn"] == {"pictures": 1}
    assert [d["kind"] for d in results["privacy"]["disclosures"]] == ["scores", NEW]
    assert results["privacy"]["meaning"][-1] == "They leave."


@pytest.mark.usefixtures("judged")
def test_more_of_it_than_a_site_allows_is_refused_too(tmp_path):
    for site, most in (("north", 8), ("south", 7), ("west", 9)):
        allow(tmp_path / "home" / site, most)
    family = Family()
    results = run(family, tmp_path)
    assert set(family.wire.payloads) == set(family.wire.requests) == {"north", "west"}
    assert f"{NEW}.max_resolution allows 7, the job has 8;" in results["failures"][0]["reason"]
