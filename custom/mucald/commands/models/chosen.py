"""The options by which a command is told of a trained model: a run and a site, or its files."""

import argparse
from pathlib import Path

from mucald.command_line import Parser, WrongUseError
from mucald.inference.model_files import TrainedModel, find_model_files, load_model


def add_model_options(parser: Parser) -> None:
    """Add the options that name a model."""
    parser.add_argument("--run", type=Path, help="the folder of a run, where both files of the model lie")
    parser.add_argument("--site", help="with --run: whose model")
    parser.add_argument("--model", type=Path, help="instead of --run: the site's file")
    parser.add_argument("--server-model", type=Path, help="with --model: the server's file")


def check_model_options(arguments: argparse.Namespace) -> None:
    """Check that the options name one model.

    Raises:
        WrongUseError: they name none, or two.
    """
    if (arguments.run is None) == (arguments.model is None):
        raise WrongUseError("give either --run with --site, or --model")
    if (arguments.run is None) != (arguments.site is None):
        raise WrongUseError("--run and --site go together")
    if arguments.server_model is not None and arguments.model is None:
        raise WrongUseError("--server-model goes with --model; with --run it is found by itself")


def model_of(arguments: argparse.Namespace) -> TrainedModel:
    """Read the model that the command line names.

    Raises:
        MucaldError: see :func:`load_model` and :func:`find_model_files`.
    """
    if arguments.run is None:
        return load_model(arguments.model, arguments.server_model)
    return load_model(*find_model_files(arguments.run, arguments.site))
