"""The same as ``mucald bench``."""

from mucald.command_line import leave
from mucald_studies.commands.bench import main

if __name__ == "__main__":
    leave(main())
