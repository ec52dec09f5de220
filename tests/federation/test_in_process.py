import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_job import equal_models, equal_tensors, run_job, tiny_config

from mucald.errors import ConfigError
from mucald.randomness import seeded_initialisation
from mucald.state.checkpoint import load_checkpoint


@pytest.mark.parametrize("workers", [2, 3])
def test_sites_at_once_give_the_numbers_of_sites_in_turn(workers, tmp_path, full):
    at_once = run_job(tiny_config(), tmp_path, workers)
    assert at_once.numbers() == full.run.numbers()
    assert equal_models(at_once, full.run)


@pytest.mark.parametrize("mode", ["fresh", "once"])
def test_gradients_of_few_levels_give_the_same_numbers_at_once_and_in_turn(mode, tmp_path):
    few = {"wire": {"feature_gradient": "int4", "latent_gradient": "int4"}, "release": {"mode": mode}}
    config = tiny_config(few)
    in_turn, at_once = run_job(config, tmp_path / "1", 1), run_job(config, tmp_path / "3", 3)
    assert at_once.numbers() == in_turn.numbers()
    assert equal_models(at_once, in_turn)


def test_the_seed_decides_the_numbers(tmp_path, full):
    again, other = (
        run_job(tiny_config(), tmp_path / "again"),
        run_job(tiny_config(seed=8), tmp_path / "other"),
    )
    assert again.numbers() == full.run.numbers()
    assert equal_models(again, full.run)
    assert other.results["sites"] != full.run.results["sites"]


def test_nothing_reads_or_moves_the_global_random_state(tmp_path, full):
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    again = run_job(tiny_config(), tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert again.numbers() == full.run.numbers()


def test_the_first_weights_do_not_depend_on_other_threads():
    """Sites of one process are built in several; torch's global generator is one for all."""

    def build(number: int) -> torch.Tensor:
        with seeded_initialisation(7, "threads", number % 4):
            layers = [torch.nn.Linear(16, 16) for _ in range(10)]
        return torch.cat([layer.weight.detach() for layer in layers])

    expected = [build(number) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(build, range(40)))
    finally:
        sys.setswitchinterval(interval)
    assert all(torch.equal(weight, expected[number % 4]) for number, weight in enumerate(found))


def test_results_and_models_lie_in_the_run_folder(full):
    folder = full.run.folder / "results"
    assert json.loads((folder / "server/results.json").read_text()) == full.run.results
    assert sorted(full.run.models()) == sorted(
        [f"results/server/models/{site}.safetensors" for site in ("north", "south", "west")]
        + [f"results/{site}/models/{site}.safetensors" for site in ("north", "south", "west")]
    )
    _, state = load_checkpoint(folder / "south/models/south.safetensors")
    assert (state["site"], state["task"]) == ("south", "ham10k")
    assert state["config"] == full.run.results["config"]


def test_a_sites_own_networks_are_in_its_own_folders_only(full):
    models = full.run.models()
    for site in ("north", "south", "west"):
        own, server = (
            models[f"results/{site}/models/{site}.safetensors"],
            models[f"results/server/models/{site}.safetensors"],
        )
        assert {name.split(".")[0] for name in own} == {"front_end", "back_end"}
        assert {name.split(".")[0] for name in server} == {"middle", "crdm1", "crdm2", "prior", "posterior"}
    private = {tuple(tensor.flatten()[:4].tolist()) for tensor in own.values() if tensor.numel() > 8}
    for path in (full.run.folder / "home/server").rglob("*.safetensors"):
        held = {
            tuple(tensor.flatten()[:4].tolist())
            for tensor in load_checkpoint(path)[0].values()
            if tensor.numel() > 8
        }
        assert not held & private, path


def test_the_models_are_those_of_the_best_rounds(full):
    for site, entry in full.run.results["sites"].items():
        server = load_checkpoint(
            full.run.folder
            / "home/server/runs"
            / full.run.results["run_id"]
            / "round-002"
            / f"{site}.safetensors"
        )[0]
        model = full.run.models()[f"results/server/models/{site}.safetensors"]
        last = {
            name.removeprefix("segments."): t for name, t in server.items() if name.startswith("segments.")
        }
        assert equal_tensors(model, last) == (entry["best_round"] == 1)


def test_the_numbers_of_threads_of_the_job_are_used(tmp_path):
    run_job(tiny_config(runtime={"threads": 1}), tmp_path)
    assert torch.get_num_threads() == 1


def test_an_unknown_or_repeated_site_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="site 'east' has no task"):
        run_job(tiny_config(), tmp_path, sites=["north", "east"])
    with pytest.raises(ConfigError, match="two sites are named 'north'"):
        run_job(tiny_config(), tmp_path, sites=["north", "north"])
