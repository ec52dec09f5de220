"""The same as ``mucald embed``."""

from mucald.command_line import leave
from mucald.commands.data.embed import main

if __name__ == "__main__":
    leave(main())
