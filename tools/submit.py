"""The same as ``mucald submit``."""

from mucald.command_line import leave
from mucald.commands.sites.submit import main

if __name__ == "__main__":
    leave(main())
