import json
import shutil

import pytest
from commands import load_tool
from tiny_job import REPOSITORY

from mucald.methods.jobs import load_job
from mucald.nets import BACKBONES, build_backbone, parameter_count

JOBS = [REPOSITORY / "jobs" / name for name in ("mucald", "mucald_unet3plus", "mucald_swin_unet")]


TOOL = load_tool("network_table")


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of the Markdown table in ``text`` by the names of its columns."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, cells, strict=True)) for cells in body]


def numbers(cell: str) -> tuple[int, ...]:
    return tuple(int(part) for part in cell.split("x" if "x" in cell else ", "))


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


@pytest.fixture(scope="module")
def published() -> list[dict[str, str]]:
    return rows(TOOL.table(TOOL.published(256), 2))


def test_numbers_are_those_of_the_built_modules(published):
    for row in published:
        plan = build_backbone(
            row["backbone"],
            features=numbers(row["features"]),
            cut=int(row["cut"]),
            latent_channels=numbers(row["latent"])[0],
            norm="batch",
        )
        assert number(row["front end"]) == parameter_count(plan.front_end())
        assert number(row["middle"]) == parameter_count(plan.middle())
        assert number(row["back end"]) == parameter_count(plan.back_end(2))
        assert numbers(row["latent"]) == plan.latent_shape(256)


def test_every_backbone_and_every_cut_of_it_has_a_row(published):
    cuts = {name: [int(row["cut"]) for row in published if row["backbone"] == name] for name in BACKBONES}
    assert all(cuts.values())
    known = {"unet": [0, 1, 2, 3, 4], "unet3plus": [0, 1, 2, 3], "swin_unet": [0, 1, 2]}
    assert {name: cuts[name] for name in known} == known


def test_a_new_backbone_has_a_row_for_each_cut_that_it_takes(monkeypatch):
    monkeypatch.setitem(BACKBONES, "another", BACKBONES["unet3plus"])
    shown = rows(TOOL.table(TOOL.published(256), 2))
    assert [row["cut"] for row in shown if row["backbone"] == "another"] == ["0", "1", "2", "3"]


def test_published_counts(published):
    counts = {
        (row["backbone"], row["cut"]): tuple(
            number(row[part]) for part in ("front end", "middle", "back end")
        )
        for row in published
    }
    assert counts["unet", "0"] == (928, 7_752_800, 9_346)
    assert counts["swin_unet", "0"][0] == 1_632


def test_bytes_per_image(published):
    row = published[0]
    channels, height, width = numbers(row["latent"])
    assert (channels, height, width) == (32, 256, 256)
    assert number(row["float32 B"]) == 4 * channels * height * width
    # One byte per number, and a float32 scale per channel.
    assert number(row["int8 B"]) == channels * height * width + 4 * channels


def test_the_command_prints_the_table(capsys, published):
    assert TOOL.main(["--image-size", "256"]) == 0
    assert rows(capsys.readouterr().out) == published


def test_jobs_have_rows_at_their_own_image_size(capsys):
    assert TOOL.main([*map(str, JOBS), "--classes", "4"]) == 0
    for row, job in zip(rows(capsys.readouterr().out), JOBS, strict=True):
        config, _ = load_job(job)
        network = config.network
        plan = build_backbone(
            network.backbone,
            features=network.features,
            cut=network.cut,
            latent_channels=network.latent_channels,
            norm=network.norm,
        )
        assert row["backbone"] == network.backbone
        assert numbers(row["features"]) == network.features
        assert numbers(row["latent"]) == plan.latent_shape(config.data.image_size)
        assert number(row["middle"]) == parameter_count(plan.middle())
        assert number(row["back end"]) == parameter_count(plan.back_end(4))


def test_an_image_size_that_does_not_fit(capsys):
    assert TOOL.main(["--image-size", "100"]) == 1
    assert "error: 'image_size' must be a multiple of 16" in capsys.readouterr().err


def test_a_job_that_does_not_fit(tmp_path, capsys):
    job = shutil.copytree(JOBS[0], tmp_path / "job")
    file = job / "app/config/mucald.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"set": {"network.cut": 9}}))
    assert TOOL.main([str(job)]) == 1
    assert "'cut' must lie in 0..4" in capsys.readouterr().err
