"""The same as ``mucald share-out``."""

from mucald.command_line import leave
from mucald.commands.data.share_out import main

if __name__ == "__main__":
    leave(main())
