import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from commands import load_tool
from matplotlib.colors import to_hex
from PIL import Image

from mucald.data.images.phantoms import PHANTOMS
from mucald.methods.split.causal.graphs import causal_task
from mucald.randomness import generator
from mucald.tasks import get_task
from mucald_studies.discovery.drawing import KINDS, draw
from mucald_studies.discovery.findings import Findings
from mucald_studies.discovery.notears import LinearNotears
from mucald_studies.discovery.report import text_report
from mucald_studies.discovery.rows import Stability, complete_rows


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("discover_graph")


SMALL = ["--phantoms", "40", "--image-size", "32", "--bootstrap", "1"]


def findings(constant: bool = False, resamples: bool = True) -> Findings:
    """A learnt graph of the task ``wbc``: one edge as built in, one reversed, one missing, one extra."""
    task = get_task("wbc")
    values = generator("findings").standard_normal((50, 4))
    values[0, 0] = np.nan
    if constant:
        values[:, 3] = 1
    strengths, shares = np.zeros((4, 4)), np.full((4, 4), 0.25)
    nodes = causal_task(task.name).graph.nodes
    for cause, effect, strength in (
        ("CellArea", "NucleusArea", 0.9),
        ("NucleusArea", "NucleusSolidity", -0.4),
        ("CellArea", "NucleusSolidity", 0.2),
    ):
        place = nodes.index(cause), nodes.index(effect)
        strengths[place], shares[place] = strength, 0.75
    return Findings(
        task,
        source="phantoms of 32 pixels",
        phantoms=True,
        seed=7,
        rows=complete_rows(nodes, values),
        method=LinearNotears(),
        threshold=0.1,
        strengths=strengths,
        stability=Stability(nodes, 20, shares) if resamples else None,
    )


def row(text: str, edge: str) -> list[str]:
    return [line.split() for line in text.splitlines() if line.startswith(edge)][-1]


def test_report_says_what_was_learnt_and_what_is_a_definition() -> None:
    text = text_report(findings())
    assert "49 of 50 training rows are complete; rows with missing values are left out (CellArea 1)" in text
    assert "1 found, 1 reversed, 1 missing, 1 extra; structural Hamming distance 3" in text
    assert "one of 6 that imply the same independences" in text
    assert "NucleusArea → NucleusSolidity  -0.40     75%       25%        reversible" in text
    found = row(text, "CellArea → NucleusArea")[3:]
    assert found == ["found", "75%", "25%", "reversible", "algebraic", "definition,", "read", "backwards"]
    assert row(text, "NucleusSolidity → NucleusArea")[3:6] == ["reversed", "25%", "75%"]
    assert row(text, "NucleusSolidity → NucleusRGB")[3:] == ["missing", "25%", "25%", "-"]
    assert row(text, "CellArea → NucleusSolidity")[3] == "extra"
    assert "- NucleusArea → CellArea (formula): CellArea = NucleusArea + pixels of cytoplasm" in text
    for words in ("varsortability", "reversible", "faithfulness", "Stability", "says nothing of patients"):
        assert words in " ".join(text.split())


def test_report_without_resamples_and_with_a_constant_node() -> None:
    text = text_report(findings(constant=True, resamples=False))
    assert row(text, "NucleusSolidity → NucleusRGB")[3:] == ["untestable", "-", "-", "-"]
    assert "the same in all rows, hence without edges: NucleusRGB" in text
    assert "no resamples" in text
    assert "Stability" not in text


def test_json_holds_the_same() -> None:
    content = json.loads(json.dumps(findings().to_dict()))
    assert content["rows"]["missing"] == {
        "CellArea": 1,
        "NucleusSolidity": 0,
        "NucleusArea": 0,
        "NucleusRGB": 0,
    }
    assert content["method"] == {"name": "linear NOTEARS", "threshold": 0.1, "sparsity": 0.05}
    assert [(edge["cause"], edge["effect"], edge["built_in"]) for edge in content["edges"]] == [
        ("CellArea", "NucleusArea", "same"),
        ("NucleusArea", "NucleusSolidity", "reversed"),
        ("CellArea", "NucleusSolidity", "absent"),
    ]
    assert content["edges"][0]["strength"] == 0.9
    assert content["edges"][0]["definition"]["argument"] == "NucleusArea"
    assert [edge["status"] for edge in content["built_in"]] == ["found", "reversed", "missing"]
    assert content["built_in"][2]["definition"] is None
    assert content["structural_hamming_distance"] == 3


def test_drawing_has_every_node_and_edge() -> None:
    (axes,) = draw(findings()).axes
    texts = {text.get_text() for text in axes.texts}
    assert {*causal_task(findings().task.name).graph.nodes, "75%"} <= texts
    places = {text.get_text(): text.get_position() for text in axes.texts if text.get_bbox_patch()}
    arrows = {to_hex(text.arrow_patch.get_edgecolor()): text for text in axes.texts if not text.get_text()}
    learnt = {
        "found": ("CellArea", "NucleusArea"),
        "reversed": ("NucleusArea", "NucleusSolidity"),
        "extra": ("CellArea", "NucleusSolidity"),
        "missing": ("NucleusSolidity", "NucleusRGB"),
    }
    assert len(arrows) == len(learnt)
    for kind, (cause, effect) in learnt.items():
        arrow = arrows[KINDS[kind][0]]
        assert (arrow.get_position(), arrow.xy) == (places[cause], places[effect])
    dashed = [colour for colour, text in arrows.items() if text.arrow_patch.get_linestyle() == "--"]
    assert dashed == [KINDS["missing"][0]]


@pytest.mark.parametrize("nonlinear", [False, True])
def test_phantoms(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, nonlinear: bool) -> None:
    extra = ["--nonlinear"] if nonlinear else []
    arguments = ["--task", "kvasir", *SMALL, *extra, "--json", "--svg", str(tmp_path / "graph.svg")]
    assert tool.main(arguments) == 0
    printed = capsys.readouterr()
    assert "resample 1/1" in printed.err
    assert ("nonlinear" if nonlinear else "linear") + " NOTEARS" in printed.err
    content = json.loads(printed.out)
    assert (content["task"], content["rows"]["complete"], content["resamples"]) == ("kvasir", 40, 1)
    # An uneven outline is neither compact nor symmetric.
    assert {"Compactness", "Asymmetry"} in [{edge["cause"], edge["effect"]} for edge in content["edges"]]
    ElementTree.parse(tmp_path / "graph.svg")
    if not nonlinear:
        tool.main([*arguments, "--force"])
        assert json.loads(capsys.readouterr().out) == content


def test_own_images_use_training_rows_only(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    home = tmp_path / "home/clinic"
    home.mkdir(parents=True)
    for index in range(70):
        image, mask = PHANTOMS["ham10k"](generator("own", index), 32)
        for kind, array in (("images", image), ("masks", mask * 255 if index else mask * 0)):
            path = tmp_path / f"set/{kind}/{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    site_file = {"task": "ham10k", "root": str(tmp_path / "set"), "layout": "pairs"}
    (home / "site.json").write_text(json.dumps(site_file))
    assert tool.main(["--home", str(home), "--bootstrap", "0", "--image-size", "16"]) == 0
    text = capsys.readouterr().out
    # 15 % validate and 20 % test.
    assert "of 46 training rows are complete" in text
    assert "own images (pairs)" in text
    assert "phantoms" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "ham1k"], "unknown task 'ham1k'; did you mean 'ham10k'?"),
        (["--task", "ham10k", "--phantoms", "39"], "--phantoms must be at least 40 for ham10k, not 39"),
        ([], "give --task to draw phantoms of it, or --home"),
        (["--home", "/nowhere/clinic"], "/nowhere/clinic has no site.json; give the folder of one site"),
    ],
)
def test_bad_input(
    tool: ModuleType, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert tool.main(arguments) == 1
    printed = capsys.readouterr()
    assert f"error: {message}" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("option", [["--bootstrap", "-1"], ["--threshold", "nan"], ["--phantoms", "many"]])
def test_bad_options(tool: ModuleType, capsys: pytest.CaptureFixture, option: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tool.main(["--task", "ham10k", *option])
    assert option[0] in capsys.readouterr().err
