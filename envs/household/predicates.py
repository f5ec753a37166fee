"""The predicates of the ALFRED domain: what they speak of, and which of them actions can change."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["agent", "location", "receptacle", "object", "rtype", "otype"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PREDICATES: dict[str, tuple[Kind, ...]] = {
    "atlocation": ("agent", "location"),
    "receptacleatlocation": ("receptacle", "location"),
    "objectatlocation": ("object", "location"),
    "openable": ("receptacle",),
    "opened": ("receptacle",),
    "inreceptacle": ("object", "receptacle"),
    "isreceptacleobject": ("object",),
    "inreceptacleobject": ("object", "object"),
    "isreceptacleobjectfull": ("object",),
    "wasinreceptacle": ("object", "receptacle"),
    "examined": ("location",),
    "receptacletype": ("receptacle", "rtype"),
    "cancontain": ("rtype", "otype"),
    "objecttype": ("object", "otype"),
    "holds": ("agent", "object"),
    "holdsany": ("agent",),
    "holdsanyreceptacleobject": ("agent",),
    "full": ("receptacle",),
    "isclean": ("object",),
    "cleanable": ("object",),
    "ishot": ("object",),
    "heatable": ("object",),
    "iscool": ("object",),
    "coolable": ("object",),
    "pickupable": ("object",),
    "moveable": ("object",),
    "toggleable": ("object",),
    "ison": ("object",),
    "istoggled": ("object",),
    "sliceable": ("object",),
    "issliced": ("object",),
}
"""Predicate to the kinds of its arguments. ``checked`` is left out: every ``look`` changes it, nothing reads it."""

DYNAMIC = frozenset(
    {
        "atlocation", "objectatlocation", "opened", "inreceptacle", "holds", "holdsany",
        "isclean", "ishot", "iscool", "ison", "istoggled", "issliced",
    }
)  # fmt: skip
"""Predicates that some action of the domain changes; all others stay as they are at the start."""
