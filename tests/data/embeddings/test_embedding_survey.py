"""What ``mucald check`` tells of a set of embeddings."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_sets import CLASSES, made

from mucald.commands.data import check
from mucald.data.embeddings.loader import EmbeddingLoader
from mucald.data.embeddings.sets import EmbeddingSet, write_set
from mucald.data.embeddings.survey import survey_embeddings
from mucald.data.site_file import SiteFile
from mucald.tasks import get_task


def site_of(folder: Path, content: EmbeddingSet) -> Path:
    """Write a set and its site.json, and return that."""
    write_set(folder / "set.safetensors", content)
    site = {"task": "brain_tumour", "root": "set.safetensors", "layout": "embeddings"}
    (folder / "site.json").write_text(json.dumps(site))
    return folder / "site.json"


def surveyed(folder: Path, content: EmbeddingSet):
    write_set(folder / "set.safetensors", content)
    root = str(folder / "set.safetensors")
    return survey_embeddings(SiteFile(task="brain_tumour", root=root, layout="embeddings"))


def test_the_check_counts_what_a_run_would_train_on(tmp_path, capsys):
    path = site_of(tmp_path, made(per_case=2))
    assert check.main([str(path), "--out", str(tmp_path / "check"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    site_file = SiteFile(task="brain_tumour", root=str(tmp_path / "set.safetensors"), layout="embeddings")
    loaded = EmbeddingLoader().own(tmp_path, site_file, get_task("brain_tumour"), None, None)
    wanted = {name: len(getattr(loaded, name)) for name in ("train", "validation", "test")}
    assert told["images"] == wanted
    rows = list(csv.DictReader((tmp_path / "check/files.csv").open()))
    assert len(rows) == 60
    assert rows[2] == {
        "sample": "2",
        "patient": "p1",
        "split": rows[3]["split"],
        "class": CLASSES[1],
        "hospital": "B",
    }
    assert {split: sum(row["split"] == split for row in rows) for split in wanted} == wanted


def test_the_text_names_the_network_and_every_class(tmp_path, capsys):
    assert check.main([str(site_of(tmp_path, made()))]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Embeddings of task brain_tumour")
    assert "no patient is in two splits" in text
    for words in ("network", "values of hospital", "patients", *CLASSES):
        assert words in text


def test_what_is_odd_is_remarked(tmp_path):
    content = made()
    content.embeddings[:, 2] = 1.0
    content.labels[content.labels == 3] = 0
    content.hashes[:] = content.hashes[0]
    found = surveyed(tmp_path, replace(content, header=replace(content.header, synthetic=True)))
    assert found.faults == []
    assert "1 of the 6 numbers are alike in all embeddings" in found.remarks
    assert "1 image is in two splits; tests will look too good" in found.remarks
    assert f"no sample is {CLASSES[3]}" in found.remarks
    assert any("synthetic" in words for words in found.remarks)
    assert surveyed(tmp_path, made()).remarks == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (replace(made(per_case=2), splits=torch.arange(60) % 2), "case 'p0' is in two splits"),
        (made(8), "no case is left for the split"),
    ],
)
def test_what_a_run_refuses_is_a_fault(content, fault, tmp_path, capsys):
    (found,) = surveyed(tmp_path, content).faults
    assert fault in found
    assert check.main([str(site_of(tmp_path, content))]) == 1
    assert fault in capsys.readouterr().out
