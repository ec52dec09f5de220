"""Which files make a model, and what is refused."""

import shutil

import pytest
from families import config_of
from tiny_job import run_job
from trained import SITE

from mucald.errors import ModelError
from mucald.inference.model_files import find_model_files, load_model
from mucald.state.checkpoint import load_checkpoint, save_checkpoint


def test_files_of_both_sides_are_found_below_a_run(trained):
    own, of_server = trained.files("mucald")
    results = trained.run("mucald").folder / "results"
    assert own == results / SITE / "models" / f"{SITE}.safetensors"
    assert of_server == results / "server/models" / f"{SITE}.safetensors"


def test_classifiers_of_embeddings_are_refused_in_the_words_of_their_family(tmp_path):
    run = run_job(config_of("generative cvae"), tmp_path)
    model = load_model(*find_model_files(run.folder / "results", "north"))
    with pytest.raises(ModelError, match="site 'north' classifies embeddings, not images"):
        model.family.network(model)


def test_a_model_of_pooled_data_is_one_file(trained):
    own, of_server = trained.files("pooled")
    assert (own.parts[-3], of_server) == ("pooled", None)
    assert not load_model(own, None).server_weights


def test_two_runs_in_one_folder_are_ambiguous(trained, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(trained.run("no noise").folder / "results", tmp_path / name)
    with pytest.raises(ModelError, match="several models"):
        find_model_files(tmp_path, SITE)


def test_an_unknown_site_is_told_the_known_ones(trained):
    with pytest.raises(ModelError, match="there are models of north, south, west"):
        find_model_files(trained.run("mucald").folder / "results", "east")


def test_the_servers_part_must_be_given(trained):
    with pytest.raises(ModelError, match="ask the operator"):
        load_model(trained.files("mucald")[0], None)


def test_parts_that_do_not_belong_together_are_refused(trained):
    own, of_server = trained.files("mucald")
    other_job = trained.files("no noise")[1]
    with pytest.raises(ModelError, match="different configurations"):
        load_model(own, other_job)
    with pytest.raises(ModelError, match="of the site 'north'"):
        load_model(own, of_server.with_name("north.safetensors"))
    with pytest.raises(ModelError, match="holds no front end"):
        load_model(of_server, of_server)
    with pytest.raises(ModelError, match="is a site's model"):
        load_model(own, own)


def test_a_damaged_file_is_refused(trained, tmp_path):
    own, of_server = trained.files("mucald")
    shutil.copy(own, tmp_path / own.name)
    with pytest.raises(ModelError, match="beside it"):
        load_model(tmp_path / own.name, of_server)


def test_a_model_of_a_job_that_is_unknown_here_is_named(trained, tmp_path):
    tensors, state = load_checkpoint(trained.files("mucald")[0])
    del state["config"]["method"]
    save_checkpoint(tmp_path / "old.safetensors", tensors, state)
    with pytest.raises(
        ModelError, match=r"old\.safetensors was trained with a job that this version does not"
    ):
        load_model(tmp_path / "old.safetensors", None)
