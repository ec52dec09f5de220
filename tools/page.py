"""The same as ``mucald page``."""

from mucald.command_line import leave
from mucald_studies.commands.page import main

if __name__ == "__main__":
    leave(main())
