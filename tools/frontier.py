"""The same as ``mucald frontier``."""

from mucald.command_line import leave
from mucald_studies.commands.frontier import main

if __name__ == "__main__":
    leave(main())
