"""The same as ``mucald discover-graph``."""

from mucald.command_line import leave
from mucald_studies.commands.discover_graph import main

if __name__ == "__main__":
    leave(main())
