"""Sets of embeddings, their splits, and how they are shared out."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from tiny_job import draw, tiny_config

from mucald.config.common import DataConfig, PhantomConfig
from mucald.data.embeddings import extractor
from mucald.data.embeddings.loader import standardised
from mucald.data.embeddings.sets import EmbeddingSet, Header, read_set, write_set
from mucald.data.embeddings.sharing import WAYS, Sharing, check_apart, shared_out
from mucald.data.embeddings.splits import rows_by_split
from mucald.data.loading import load_site_data
from mucald.data.site_file import SiteFile
from mucald.data.source import data_line
from mucald.errors import ConfigError, DataError
from mucald.tasks import get_task

CLASSES = get_task("brain_tumour").classes


def made(count: int = 60, per_case: int = 1, **header) -> EmbeddingSet:
    cases = tuple(f"p{row // per_case}" for row in range(count))
    labels = torch.arange(count) // per_case % 4
    hashes = torch.arange(count * 16).remainder(251).reshape(count, 16).to(torch.uint8)
    groups = {"hospital": tuple("AB"[int(case[1:]) % 2] for case in cases)}
    content = replace(Header("b", "w", "none", CLASSES, cases, groups), **header)
    return EmbeddingSet(content, draw(count, 6), labels, hashes, reference=torch.ones(2, 6))


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
def test_a_set_is_read_as_it_was_written(ending, tmp_path):
    content = replace(made(), splits=torch.zeros(60, dtype=torch.int64))
    write_set(tmp_path / f"set{ending}", content)
    read = read_set(tmp_path / f"set{ending}")
    assert read.header == content.header
    for name, tensor in content.tensors().items():
        assert torch.equal(read.tensors()[name], tensor)
    with pytest.raises(DataError, match=r"ends with \.safetensors or \.npz"):
        read_set(tmp_path / "set.pkl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embeddings": torch.full((60, 6), float("nan"))}, "sample 0 is not finite"),
        ({"labels": torch.full((60,), 4)}, "label 4 of sample 0 is none of the classes 0 to 3"),
        ({"labels": torch.zeros(59, dtype=torch.int64)}, "not equally many"),
        ({"hashes": torch.zeros(60, 3, dtype=torch.uint8)}, "hashes must be 16 bytes"),
        ({"hashes": torch.zeros(60, 16, dtype=torch.int64)}, "hashes must be 16 bytes"),
        ({"hashes": torch.tensor(1, dtype=torch.uint8)}, "hashes must be 16 bytes"),
        ({"reference": torch.ones(2, 5)}, "reference must be 2 x 6"),
        ({"reference": torch.full((2, 6), float("nan"))}, "reference must be finite"),
        ({"reference": -torch.ones(2, 6)}, "no deviation negative; embed the images again"),
        ({"splits": torch.full((60,), 3)}, r"splits must be 0 \(train\), 1 \(validation\) or 2 \(test\)"),
        ({"splits": torch.full((60,), -1)}, "splits must be 0"),
        ({"splits": torch.zeros(60, 2, dtype=torch.int64)}, "splits must be 0"),
        ({"splits": torch.zeros(60)}, "splits must be whole numbers .*save them as torch.int64"),
        ({"labels": torch.full((60,), 0.5)}, "labels must be whole numbers .*save them as torch.int64"),
        ({"labels": torch.full((60,), -1)}, "label -1 of sample 0 is none of the classes 0 to 3"),
        ({"embeddings": torch.zeros(60, 6, dtype=torch.complex64)}, "embeddings must be floating point"),
        ({"embeddings": torch.full((60, 6), 1e300, dtype=torch.float64)}, "sample 0 is not finite"),
    ],
)
def test_a_wrong_set_is_refused_with_the_fix(changes, said, tmp_path):
    write_set(tmp_path / "set.safetensors", replace(made(), **changes))
    with pytest.raises(DataError, match=said) as raised:
        read_set(tmp_path / "set.safetensors")
    assert str(tmp_path) not in raised.value.public


def test_a_set_in_float64_is_read_as_float32(tmp_path):
    content = made()
    double = replace(content, embeddings=content.embeddings.double(), reference=torch.ones(2, 6).double())
    for ending in (".safetensors", ".npz"):
        write_set(tmp_path / f"set{ending}", double)
        read = read_set(tmp_path / f"set{ending}")
        assert (read.embeddings.dtype, read.reference.dtype) == (torch.float32, torch.float32)
        assert torch.equal(read.embeddings, content.embeddings)


@pytest.mark.parametrize("header", ["[]", '{"backbone"', "null"])
def test_a_header_that_is_no_object_is_refused_with_the_files_name(header, tmp_path):
    path = tmp_path / "set.safetensors"
    path.write_bytes(safetensors.torch.save(made().tensors(), {"header": header}))
    with pytest.raises(DataError, match=r"set\.safetensors: header ") as raised:
        read_set(path)
    assert raised.value.public == "the site's embedding set is wrong"


def test_no_case_is_in_two_splits_and_each_class_is_held_out():
    content = made(90, per_case=3)
    rows = rows_by_split(content, SiteFile("brain_tumour", "x", "embeddings"))
    cases = [{content.case(row) for row in chosen} for chosen in rows.values()]
    assert sum(map(len, rows.values())) == 90
    assert not (cases[0] & cases[1] | cases[0] & cases[2] | cases[1] & cases[2])
    assert all(set(content.labels[chosen].tolist()) == {0, 1, 2, 3} for chosen in rows.values())
    told = replace(content, splits=torch.arange(90) % 3)
    with pytest.raises(DataError, match="is in two splits; give all its images one"):
        rows_by_split(told, SiteFile("brain_tumour", "x", "embeddings"))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_shares_all_out_once_and_no_patient_twice(way):
    content = made(240, per_case=2)
    sharing = Sharing(sites=4, alpha=1.0, by="hospital")
    found = shared_out(content, way, sharing)
    assert found == shared_out(content, way, sharing)
    assert sorted(row for rows in found for row in rows) == list(range(240))
    check_apart(content, found)
    assert len(found) == (2 if way == "metadata" else 4)
    if way == "shards":
        assert all(len(set(content.labels[rows].tolist())) <= 3 for rows in found)


def test_what_would_put_a_patient_at_two_sites_is_refused():
    content = made(12, per_case=2)
    with pytest.raises(ConfigError, match="at the sites 1 and 2"):
        check_apart(content, [[0, 2, 4], [1, 3, 5]])
    groups = {"hospital": tuple("AB" * 6)}
    mixed = replace(content, header=replace(content.header, groups=groups))
    with pytest.raises(ConfigError, match=r"^patient '.+' has several values of 'hospital': A, B; correct"):
        shared_out(mixed, "metadata", Sharing(by="hospital"))
    wrong = [
        ("none", Sharing(), "unknown way"),
        ("iid", Sharing(sites=5), "fewer than 3"),
        ("dirichlet", Sharing(alpha=0.0), "alpha must be above 0, not 0"),
        ("iid", Sharing(keep=-0.5), "above 0 and at most 1, not -0.5"),
        ("iid", Sharing(keep=10), "above 0 and at most 1, not 10"),
    ]
    for way, sharing, said in (*wrong, ("metadata", Sharing(by="x"), "no metadata 'x'")):
        with pytest.raises(ConfigError, match=said):
            shared_out(content, way, sharing)


def test_a_subsample_keeps_the_shares_of_the_classes():
    content = made(240)
    rows = [row for rows in shared_out(content, "iid", Sharing(sites=2, keep=0.5)) for row in rows]
    assert torch.bincount(content.labels[rows]).tolist() == [30] * 4


def test_phantoms_differ_in_their_shares_of_classes_from_site_to_site():
    data = DataConfig(image_size=32, phantoms=PhantomConfig(40, 10, 20, class_skew=0.3))
    one, other = (load_site_data(site, "phantom_kind", data, 7, None) for site in ("a", "b"))
    again = load_site_data("a", "phantom_kind", data, 7, None)
    assert torch.equal(one.train.whole().inputs, again.train.whole().inputs)
    assert one.train.whole().inputs.shape == (40, extractor.DIMENSION)
    counts = [torch.bincount(site.train.whole().targets, minlength=7) for site in (one, other)]
    assert not torch.equal(*counts)
    assert len(set(one.train.hashes)) == 40
    even = replace(data, phantoms=PhantomConfig(42, 14, 14))
    site = load_site_data("a", "phantom_kind", even, 7, None)
    assert torch.bincount(site.train.whole().targets).tolist() == [6] * 7


def test_the_extractor_tells_kinds_of_phantoms_apart():
    data = DataConfig(image_size=32, phantoms=PhantomConfig(140, 7, 140))
    site = load_site_data("a", "phantom_kind", data, 7, None)
    train, test = site.train.whole(), site.test.whole()
    centres = torch.stack([train.inputs[train.targets == label].mean(dim=0) for label in range(7)])
    nearest = torch.cdist(test.inputs, centres).argmin(dim=1)
    assert float((nearest == test.targets).float().mean()) > 0.75


def test_a_site_reads_its_own_set_or_says_what_is_wrong(tmp_path):
    write_set(tmp_path / "set.safetensors", made(60))
    path = tmp_path / "site.json"
    content = {"task": "brain_tumour", "root": "set.safetensors", "layout": "embeddings"}
    path.write_text(json.dumps(content))
    site = load_site_data("a", "brain_tumour", DataConfig(), 7, tmp_path)
    counts = [len(split) for split in (site.train, site.validation, site.test)]
    assert sum(counts) == 60
    assert "phantom" not in site.source
    assert torch.allclose(site.train.whole().inputs + 1, site.train.content.embeddings)
    assert f"({counts[0]} to train" in data_line("a", tiny_config(), tmp_path)
    for changes, said in (
        ({"layout": "pairs"}, "mucald embed"),
        ({"task": "white_cell"}, "--task white_cell"),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(DataError, match=said):
            load_site_data("a", None, DataConfig(), 7, tmp_path)


def test_what_hardly_varies_over_public_images_does_not_drown_the_rest():
    content = made(40)
    deviation = torch.tensor([0.0, 1e-6, 1.0, 1.0, 2.0, 3.0])
    reference = torch.stack((torch.zeros(6), deviation))
    standard = standardised(replace(content, reference=reference))
    least = torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0, 3.0])
    torch.testing.assert_close(standard, content.embeddings / least)
    assert torch.equal(standardised(replace(content, reference=None)), content.embeddings)
    assert bool(standardised(replace(content, reference=torch.zeros(2, 6))).isfinite().all())
