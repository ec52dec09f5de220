import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_job import CPU, PLAIN, pooled_config, tiny_config, write_policy

from mucald.config.job import JobConfig
from mucald.errors import DataError
from mucald.federation.method import SiteMethod
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.pooled.config import PooledConfig

SITES = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}


@pytest.fixture
def config() -> PooledConfig:
    return pooled_config(sites=SITES)


def create(name: str, config: JobConfig, home: Path) -> SiteMethod:
    return create_site(family_of(config.method), name, config, home, "run", CPU)


def write_images(home: Path, task: str) -> None:
    random = np.random.default_rng(len(task))
    for number in range(6):
        for folder, array in (
            ("images", random.integers(0, 255, (16, 16, 3), dtype=np.uint8)),
            ("masks", np.pad(np.full((8, 4 + number), 255, dtype=np.uint8), ((4, 4), (2, 10 - number)))),
        ):
            (home / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(home / folder / f"{number}.png")
    (home / "site.json").write_text(json.dumps({"task": task, "root": ".", "layout": "pairs"}))
    write_policy(home)


def test_images_split_and_first_weights_of_pooled_sites_are_those_of_the_sites(config, tmp_path):
    """The back end of a site starts alike wherever it is, since the site's secret goes with its data."""
    for site, entry in SITES.items():
        write_images(tmp_path / site, entry["task"])
    pooled = create("pooled", config, tmp_path)
    for site in SITES:
        alone = create(site, tiny_config(PLAIN, sites=SITES), tmp_path / site)
        assert alone._data.source == pooled._data[site].source == "own images (pairs)"
        for split in ("train", "validation", "test"):
            own, moved = getattr(alone._data, split), getattr(pooled._data[site], split)
            assert torch.equal(own.pixels, moved.pixels)
            assert torch.equal(own.labels, moved.labels)
        first = pooled._model.weights(site)
        back_end = {name: tensor for name, tensor in alone.weights().items() if name.startswith("back_end.")}
        assert back_end
        assert all(torch.equal(first[name], tensor) for name, tensor in back_end.items())


@pytest.mark.parametrize("there", ["", "north"])
def test_with_images_of_its_own_the_data_of_all_sites_are_needed(there, config, tmp_path):
    """A hospital that is told to train for all must not end up with phantoms in the others' place."""
    write_images(tmp_path / there, "kvasir")
    missing = "south" if there else "north"
    with pytest.raises(DataError) as raised:
        create("pooled", config, tmp_path)
    assert f"{tmp_path / missing / 'site.json'} is missing: 'pooled' trains on the data of all" in str(
        raised.value
    )
    assert raised.value.public == f"'pooled' lacks {missing}/site.json; it needs the data of all sites"


def test_without_any_images_it_draws_phantoms(config, tmp_path):
    pooled = create("pooled", config, tmp_path)
    assert {data.source for data in pooled._data.values()} == {"phantoms"}
