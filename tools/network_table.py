"""The same as ``mucald network-table``."""

from mucald.command_line import leave
from mucald_studies.commands.network_table import main

if __name__ == "__main__":
    leave(main())
