"""Run on samples of public sets where they lie beside the repository; nothing of them is part of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mucald.config.common import DataConfig, PhantomConfig, VolumeConfig
from mucald.data.loading import load_site_data
from mucald.data.records.layouts import find_records
from mucald.data.records.splits import split_records
from mucald.data.site_data import SiteData
from mucald.data.site_file import read_site_file
from mucald.data.volumes.planning import plan_of
from mucald.data.volumes.survey import survey_volumes
from mucald.methods.split.site.build import measures_of

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "data" / "real"
SETS = {
    "kvasir_seg": ("kvasir", 111),
    "ham10000": ("ham10k", 116),
    "Dataset501_CovidCT": ("mosmed", 64),
    "wbc": ("wbc", 110),
    "hc18": ("fetal_head", 16),
}

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="no folder shared/data/real beside the repository")


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("homes")
    command = [sys.executable, REPOSITORY / "tools/site_files.py", REAL, "--home", folder, "--reproducible"]
    subprocess.run(command, check=True)
    return folder


def load(home: Path) -> SiteData:
    data = DataConfig(image_size=64, phantoms=PhantomConfig(train=1, validation=1, test=1))
    return load_site_data(home.name, None, data, 7, home, measures_of)


@pytest.mark.parametrize("name", SETS)
def test_real_set(homes: Path, name: str) -> None:
    task, count = SETS[name]
    data = load(homes / name)
    assert data.task.name == task
    assert len(data.train) + len(data.validation) + len(data.test) == count
    assert data.noise_secret == f"public image set {name}"
    assert not data.tensorboard_images
    for split in (data.train, data.validation, data.test):
        assert split.pixels.shape == (len(split), 3, 64, 64)
        assert split.labels.shape == (len(split), 64, 64)
        assert split.labels.unique().tolist() == list(range(data.task.n_classes))
        assert split.measures.isfinite().float().mean() > 0.95
        assert split.pixels.float().std() > 20
    defined = data.train.measures
    assert torch.allclose(defined.nanmean(dim=0), torch.zeros(4), atol=1e-5)
    for column in defined.T:
        assert column[column.isfinite()].std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_real_splits_share_no_case(homes: Path, name: str) -> None:
    site_file = read_site_file(homes / name / "site.json")
    parts = split_records(find_records(site_file), site_file)
    cases = [{record.case for record in part} for part in parts.values()]
    assert all(cases)
    assert sum(map(len, cases)) == len(set.union(*cases))


@pytest.mark.parametrize("task", ["heart", "heart_pathology"])
def test_the_cardiac_set_is_read_as_volumes(task: str, tmp_path: Path) -> None:
    content = {"task": task, "root": str(REAL / "Dataset502_CardiacMR"), "layout": "nnunet"}
    (tmp_path / "site.json").write_text(json.dumps(content | {"max_cases": 10}))
    found = survey_volumes(read_site_file(tmp_path / "site.json"))
    assert not found.faults
    plan = plan_of(found, divisor=4)
    assert plan.spacing == (3.0, 3.0, 10.0)
    config = DataConfig(volumes=VolumeConfig(plans={task: plan}))
    data = load_site_data("x", task, config, 7, tmp_path)
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [6, 2, 2]
    for split in splits:
        for row in range(len(split)):
            batch = split.batch([row])
            assert batch.inputs.shape[2:4] == (128, 128)
            assert batch.inputs.isfinite().all()
            classes = set(batch.targets.unique().tolist())
            assert classes == {0, 1, 2, 3} if task == "heart" else classes <= {0, 1, 2, 3, 4}
