"""The same as ``mucald experiments``."""

from mucald.command_line import leave
from mucald_studies.commands.experiments import main

if __name__ == "__main__":
    leave(main())
