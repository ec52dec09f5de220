"""Sites with embedding sets of their own, for tests."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from families import config_of
from tiny_job import draw, write_policy

from mucald.config.job import JobConfig
from mucald.data.embeddings.sets import EmbeddingSet, Header, write_set
from mucald.tasks import get_task

CVAE = "generative cvae"
SITES = ("north", "south", "west")


def private(folder: Path, site: str, count: int = 40, **changes: Any) -> EmbeddingSet:
    """Give a site a set of its own."""
    classes = get_task("brain_tumour").classes
    header = Header("random-features", "", "none", classes)
    hashes = torch.arange(count * 16).remainder(253).reshape(count, 16).to(torch.uint8)
    labels = torch.arange(count) % 4
    content = EmbeddingSet(header, draw(count, 12) + 2 * draw(4, 12, seed=4)[labels], labels, hashes)
    content = replace(content, **changes)
    home = folder / "home" / site
    home.mkdir(parents=True, exist_ok=True)
    write_set(home / "set.safetensors", content)
    site_file = {"task": "brain_tumour", "root": "set.safetensors", "layout": "embeddings"}
    (home / "site.json").write_text(json.dumps(site_file))
    write_policy(home)
    return content


def own_sets(sites: Sequence[str] = SITES, **changes: Any) -> JobConfig:
    """Return a job of sites that have sets of their own, with top-level ``changes``."""
    return config_of(CVAE, sites={name: {"task": "brain_tumour"} for name in sites}, **changes)
