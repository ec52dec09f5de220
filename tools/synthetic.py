"""The same as ``mucald synthetic``."""

from mucald.command_line import leave
from mucald_studies.generative.synthetic import main

if __name__ == "__main__":
    leave(main())
