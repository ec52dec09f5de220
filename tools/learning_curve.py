"""The same as ``mucald learning-curve``."""

from mucald.command_line import leave
from mucald_studies.commands.learning_curve import main

if __name__ == "__main__":
    leave(main())
