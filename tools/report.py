"""The same as ``mucald report``."""

from mucald.command_line import leave
from mucald_studies.commands.report import main

if __name__ == "__main__":
    leave(main())
