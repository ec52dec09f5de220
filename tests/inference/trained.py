"""Tiny runs of every kind of job, and their test images as files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_job import PLAIN, Run, run_job, tiny_content
from torch import Tensor

from mucald.config.job import JobConfig
from mucald.data.loading import load_site_data
from mucald.data.site_data import DataSplit
from mucald.inference.model_files import TrainedModel, find_model_files, load_model
from mucald.methods.jobs import load_base, parse_config

KINDS: dict[str, list[dict[str, Any]]] = {
    "mucald": [],
    "no denoiser": [{"crdm": {"denoiser": False}}],
    "single releases": [{"release": {"mode": "once", "pretraining_epochs": 1}}],
    "no noise": [PLAIN],
    "shared front end": [PLAIN, {"algorithm": {"name": "fedper"}}],
    "in turn": [PLAIN, {"algorithm": {"name": "splitfed_v2"}, "aggregation": {"rule": "local"}}],
    "mixture": [PLAIN, {"algorithm": {"name": "fedem", "args": {"components": 2}}}],
    "task adaptation": [PLAIN, {"network": {"task_adaptation": True}}],
    "batch norm": [PLAIN, {"network": {"norm": "batch"}}],
    "bfloat16": [PLAIN, {"network": {"precision": "bfloat16"}}],
    "handed over": [{"handover": {"epochs": 1}}],
    "pooled": [],
}
SITE = "south"


def config_of(kind: str) -> JobConfig:
    content = tiny_content(*KINDS[kind], data={"phantoms": {"test": 5}})
    if kind == "pooled":
        base = load_base("pooled/centralized").to_dict()
        content = base | {key: content[key] for key in ("sites", "data", "training", "network", "runtime")}
    return parse_config(content)


class Trained:
    """Runs each kind once."""

    def __init__(self, folder: Callable[[str], Path]):
        self._folder = folder
        self._runs: dict[str, Run] = {}

    def run(self, kind: str) -> Run:
        if kind not in self._runs:
            self._runs[kind] = run_job(config_of(kind), self._folder(kind.replace(" ", "_")))
        return self._runs[kind]

    def files(self, kind: str) -> tuple[Path, Path | None]:
        return find_model_files(self.run(kind).folder / "results", SITE)

    def model(self, kind: str) -> TrainedModel:
        return load_model(*self.files(kind))


def images_of(config: JobConfig) -> DataSplit:
    task = config.site(SITE).task
    return load_site_data(SITE, task, config.data, config.seed, None).test


def write_pictures(split: DataSplit, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:02}.png" for index in range(len(split))]
    for path, pixels in zip(paths, split.pixels, strict=True):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return paths


def read_masks(folder: Path) -> Tensor:
    masks = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    return torch.from_numpy(np.stack(masks)).to(torch.int64)
