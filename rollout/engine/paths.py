"""Where the driver's own modules are, so that other processes can import them too."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Collection


def own_path() -> tuple[str, ...]:
    """Return what this process's ``sys.path`` has beyond the interpreter's own directories."""
    installed = {os.path.abspath(path) for path in sysconfig.get_paths().values()}
    own = (os.path.abspath(entry or os.curdir) for entry in sys.path)
    return tuple(path for path in own if os.path.isdir(path) and not _inside(path, installed))


def _inside(path: str, folders: Collection[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
