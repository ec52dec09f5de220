"""The same as ``mucald consortium``."""

from mucald.command_line import leave
from mucald_studies.commands.consortium import main

if __name__ == "__main__":
    leave(main())
