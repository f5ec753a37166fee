"""Parts of a reward that come from elsewhere: an object, or an import string with its options.

``rewards`` imports neither worlds nor agents. What it needs from them is handed in, or named in the
configuration and loaded when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnwise.errors import ConfigError, attribute_to
from turnwise.records import Json
from turnwise.registry import load_entry_point
from turnwise.rewards.options import OptionError, show


def made(option: str, part: Any, options: Mapping[str, Json] | None, protocol: Any) -> Any:
    """Return a part, made from its import string where it is one.

    Args:
        option: Name of the option that holds it, for messages.
        part: The object, or ``"module:Class"``.
        options: What to make it with; only for an import string.
        protocol: The Protocol that it must keep.

    Raises:
        OptionError: It points nowhere, cannot be made so, or is something else.
    """
    if isinstance(part, str):
        if ":" not in part:
            raise OptionError(option, f"must be an import string 'module:Class', got {show(part)}")
        if options is not None and not isinstance(options, Mapping):
            raise OptionError(f"{option}_options", f"must be a mapping of option names, got {show(options)}")
        try:
            with attribute_to("config", f"making {part!r}"):
                part = load_entry_point(part)(**(options or {}))
        except ConfigError as error:
            raise OptionError(option, str(error)) from error
    elif options and not isinstance(options, Mapping):
        raise OptionError(f"{option}_options", f"must be a mapping of option names, got {show(options)}")
    elif options:
        raise OptionError(f"{option}_options", "is for an import string: this one is made already")
    if not isinstance(part, protocol):
        lacks = [name for name in dir(protocol) if not name.startswith("_") and not hasattr(part, name)]
        missing = f": it lacks {', '.join(lacks)}" if lacks else ""
        raise OptionError(option, f"{show(part)} does not keep the protocol {protocol.__name__}{missing}")
    return part


def use_of(part: object) -> str:
    """Return the import string of a part's class."""
    return f"{type(part).__module__}:{type(part).__qualname__}"
