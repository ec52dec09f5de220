"""The same as ``mucald compare``."""

from mucald.command_line import leave
from mucald_studies.commands.compare import main

if __name__ == "__main__":
    leave(main())
