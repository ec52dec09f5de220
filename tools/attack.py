"""The same as ``mucald attack``."""

from mucald.command_line import leave
from mucald_studies.commands.attack import main

if __name__ == "__main__":
    leave(main())
