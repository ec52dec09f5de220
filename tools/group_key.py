"""The same as ``mucald group-key``."""

from mucald.command_line import leave
from mucald.commands.sites.group_key import main

if __name__ == "__main__":
    leave(main())
