"""The same as ``mucald cardiac``."""

from mucald.command_line import leave
from mucald_studies.commands.cardiac import main

if __name__ == "__main__":
    leave(main())
