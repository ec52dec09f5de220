"""The same as ``mucald setup``."""

from mucald.command_line import leave
from mucald.commands.sites.setup import main

if __name__ == "__main__":
    leave(main())
