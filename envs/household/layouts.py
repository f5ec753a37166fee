"""The rooms of the embedded tasks: four kinds, 36 layouts each, made from our own templates.

A layout says which receptacles stand in a room, and where: a position for the receptacle (which makes
its id, in ALFRED's way of spelling) and the spot where the agent stands to use it. As in the scanned
scenes of ALFRED, a few receptacles share a spot: two drawers above each other, or the toaster and the
counter it stands on. The last six layouts of each room are held out for ``val_unseen``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property

from turnwise.envs.household.catalog import ROOMS, Room
from turnwise.envs.household.draws import Draws
from turnwise.errors import unknown_name

LAYOUTS_PER_ROOM = 36
HELD_OUT_PER_ROOM = 6

_SEED = 7071
_MAX_ATTEMPTS = 1000

# Floor plan (width x depth in metres), then how many receptacles of each type.
_TEMPLATES: dict[Room, tuple[str, ...]] = {
    "kitchen": (
        # galley
        """2.5x5.0 CounterTop 2-2 Cabinet 6-12 Drawer 4-9 Fridge 1-1 Microwave 1-1 SinkBasin 1-1 StoveBurner 4-4
        Toaster 0-1 CoffeeMachine 1-1 GarbageCan 1-1 Shelf 0-2""",
        # with a dining corner
        """4.5x5.5 CounterTop 1-3 Cabinet 4-9 Drawer 3-8 Fridge 1-1 Microwave 1-1 SinkBasin 1-1 StoveBurner 4-4
        Toaster 1-1 CoffeeMachine 0-1 GarbageCan 1-1 DiningTable 1-2 SideTable 0-1""",
        # kitchenette
        """2.0x3.0 CounterTop 1-1 Cabinet 3-6 Drawer 1-4 Fridge 1-1 Microwave 1-1 SinkBasin 1-1 StoveBurner 2-2
        Toaster 0-1 CoffeeMachine 0-1 GarbageCan 1-1 SideTable 0-1 Shelf 0-3""",
        # with an island
        """5.0x6.0 CounterTop 3-4 Cabinet 8-14 Drawer 5-10 Fridge 1-1 Microwave 1-1 SinkBasin 1-2 StoveBurner 4-4
        Toaster 1-1 CoffeeMachine 1-1 GarbageCan 1-1 DiningTable 0-1 Shelf 0-3""",
    ),
    "livingroom": (
        # lounge
        """5.0x6.0 Sofa 1-2 ArmChair 1-2 CoffeeTable 1-2 SideTable 1-3 TVStand 1-1 Shelf 0-4 GarbageCan 1-1
        Drawer 0-4""",
        # library
        """4.0x5.0 Sofa 1-1 ArmChair 1-2 SideTable 1-2 Shelf 4-9 Desk 1-1 Drawer 2-5 GarbageCan 1-1 Cabinet 0-4
        Safe 0-1""",
        # with a dining area
        """5.0x7.0 Sofa 1-1 ArmChair 0-2 CoffeeTable 1-1 SideTable 1-2 DiningTable 1-1 TVStand 0-1 Cabinet 2-6
        Drawer 1-5 Dresser 0-1 GarbageCan 1-1""",
        # den
        """3.5x4.5 Sofa 1-1 CoffeeTable 0-1 SideTable 2-3 Ottoman 1-1 TVStand 0-1 Dresser 1-1 Drawer 2-8 Shelf 1-4
        GarbageCan 1-1 Safe 0-1""",
    ),
    "bedroom": (
        # master
        """4.5x5.5 Bed 1-1 Dresser 1-1 SideTable 2-2 ArmChair 0-1 Drawer 4-9 Desk 0-1 Shelf 0-3 LaundryHamper 1-1
        GarbageCan 1-1 Safe 0-1""",
        # student
        """3.0x4.0 Bed 1-1 Desk 1-2 Drawer 2-6 Shelf 3-9 GarbageCan 1-1 SideTable 0-1 LaundryHamper 0-1 Safe 0-1""",
        # twin
        """4.0x5.0 Bed 2-2 SideTable 1-2 Desk 1-1 Drawer 2-7 Shelf 0-4 Cabinet 0-3 GarbageCan 1-1 Ottoman 0-1""",
        # studio
        """4.5x4.5 Bed 1-1 Sofa 1-1 Desk 1-1 SideTable 1-1 Drawer 3-6 Cabinet 2-6 Dresser 0-1 Shelf 0-4
        GarbageCan 1-1 LaundryHamper 0-1""",
    ),
    "bathroom": (
        # family
        """3.0x4.0 BathtubBasin 1-1 SinkBasin 2-2 CounterTop 1-2 Cabinet 2-6 Drawer 0-5 Toilet 1-1
        ToiletPaperHanger 1-1 HandTowelHolder 1-2 TowelHolder 1-1 GarbageCan 1-1 Shelf 0-1""",
        # shower room
        """2.0x2.5 SinkBasin 1-1 CounterTop 1-1 Cabinet 1-4 Toilet 1-1 ToiletPaperHanger 1-1 HandTowelHolder 1-1
        TowelHolder 1-1 GarbageCan 1-1 Shelf 0-3 Drawer 0-4""",
        # with a vanity
        """2.5x3.5 BathtubBasin 0-1 SinkBasin 1-1 CounterTop 1-1 Drawer 3-8 Cabinet 1-2 Toilet 1-1
        ToiletPaperHanger 1-1 HandTowelHolder 1-2 TowelHolder 0-1 GarbageCan 1-1 Cart 0-1""",
        # guest
        """2.0x3.0 SinkBasin 1-1 CounterTop 0-1 Cabinet 2-4 Shelf 1-4 Toilet 1-1 ToiletPaperHanger 1-1
        HandTowelHolder 1-1 TowelHolder 1-1 GarbageCan 1-1 Cart 1-1 LaundryHamper 0-1""",
    ),
}

# Height of each type's surface in metres; the others stand at table height.
_HEIGHTS = {
    "GarbageCan": 0.0, "Fridge": 0.0, "LaundryHamper": 0.0, "Toilet": 0.0, "BathtubBasin": 0.1, "Bed": 0.2,
    "Sofa": 0.3, "ArmChair": 0.3, "Ottoman": 0.3, "Safe": 0.3, "CoffeeTable": 0.4, "Drawer": 0.5, "SideTable": 0.6,
    "CounterTop": 0.9, "StoveBurner": 0.9, "Microwave": 1.1, "Shelf": 1.3, "Cabinet": 1.9,
}  # fmt: skip
_TABLE_HEIGHT = 0.75

# What may share the standing spot of something placed before it: (type, type it joins, chance).
_SHARES = (
    ("Cabinet", "Cabinet", 0.2),
    ("Drawer", "Drawer", 0.25),
    ("Shelf", "Shelf", 0.15),
    ("StoveBurner", "StoveBurner", 0.2),
    ("CoffeeMachine", "CounterTop", 0.3),
    ("Toaster", "CounterTop", 0.3),
    ("ToiletPaperHanger", "Toilet", 0.2),
)
_BASINS = {"SinkBasin": "Sink", "BathtubBasin": "Bathtub"}


@dataclass(frozen=True)
class Receptacle:
    """A receptacle of a layout.

    Attributes:
        type: ALFRED's type name, such as ``"SinkBasin"``.
        id: PDDL id, lower case.
        location: PDDL id of the spot where the agent stands to use it, lower case.
        position: x, y (height), z in metres.
    """

    type: str
    id: str
    location: str
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Layout:
    """A room.

    Attributes:
        name: Room and two-digit number, such as ``"kitchen07"``.
        room: Kind of room.
        receptacles: What stands in it.
        start: PDDL id of the spot where the agent begins; there is no receptacle there.
    """

    name: str
    room: Room
    receptacles: tuple[Receptacle, ...]
    start: str

    @cached_property
    def counts(self) -> Counter[str]:
        """How many receptacles there are of each type."""
        return Counter(receptacle.type for receptacle in self.receptacles)

    @property
    def held_out(self) -> bool:
        """Whether only ``val_unseen`` uses it."""
        return int(self.name[-2:]) > LAYOUTS_PER_ROOM - HELD_OUT_PER_ROOM


def coordinate(value: float) -> str:
    """Spell a coordinate in metres as ALFRED's PDDL ids do: ``-0.5`` is ``_minus_00_dot_50``."""
    hundredths = round(value * 100)
    whole, part = divmod(abs(hundredths), 100)
    return f"_{'minus' if hundredths < 0 else 'plus'}_{whole:02d}_dot_{part:02d}"


def pddl_id(name: str, position: tuple[float, float, float], *, part: str = "") -> str:
    """Spell the lower-case PDDL id of a thing of type ``name`` at a position in metres."""
    parts = [name, *map(coordinate, position), *([part] if part else [])]
    return "_bar_".join(parts).lower()


def _location_id(x: int, z: int, rotation: int, horizon: int) -> str:
    numbers = (f"_minus_{-n}" if n < 0 else str(n) for n in (x, z, rotation, horizon))
    return "_bar_".join(("loc", *numbers))


def _receptacle_id(kind: str, position: tuple[float, float, float]) -> str:
    if kind in _BASINS:
        return pddl_id(_BASINS[kind], position, part=kind)
    return pddl_id(kind, position)


def _read_template(text: str) -> tuple[float, float, list[tuple[str, int, int]]]:
    size, *words = text.split()
    width, depth = map(float, size.split("x"))
    spans = [(kind, span.split("-")) for kind, span in zip(words[::2], words[1::2], strict=True)]
    return width, depth, [(kind, int(low), int(high)) for kind, (low, high) in spans]


class _Floor:
    """A room being furnished: hands out positions along its walls and standing spots before them."""

    def __init__(self, draws: Draws, width: float, depth: float) -> None:
        self.draws = draws
        self.width = width
        self.depth = depth
        self.receptacles: list[Receptacle] = []
        self._ids: set[str] = set()
        self._locations: set[str] = set()

    def wall(self, share: float) -> tuple[float, float, int]:
        """Return x, z and the wall's number (0 to 3) at a share of the way around the room."""
        way = share * 2 * (self.width + self.depth)
        side = 0
        while side < 3 and way > (self.width, self.depth)[side % 2]:
            way -= (self.width, self.depth)[side % 2]
            side += 1
        w, d = self.width / 2, self.depth / 2
        x, z = ((way - w, d), (w, d - way), (w - way, -d), (-w, way - d))[side]
        return x, z, side

    def add(self, kind: str, share: float) -> None:
        """Place one receptacle of a type at a share of the way around the room, or beside another."""
        height = _HEIGHTS.get(kind, _TABLE_HEIGHT) + 0.01 * self.draws.between(0, 20)
        host = self._host(kind)
        if host is None:
            x, z, side = self.wall(share)
            location = self._own(x, z, side, height)
        else:
            (x, _, z), location = host.position, host.location
        position = (x, height, z)
        while (identifier := _receptacle_id(kind, position)) in self._ids:
            position = (x, position[1] + 0.3, z)
        self._ids.add(identifier)
        self._locations.add(location)
        self.receptacles.append(Receptacle(kind, identifier, location, position))

    def _host(self, kind: str) -> Receptacle | None:
        for joiner, host, chance in _SHARES:
            hosts = [r for r in self.receptacles if r.type == host] if joiner == kind else []
            if hosts and self.draws.chance(chance):
                return hosts[-1]
        return None

    def _own(self, x: float, z: float, side: int, height: float) -> str:
        """Return a free standing spot 0.75 m before the wall; spots lie on a grid of 0.25 m."""
        dx, dz = ((0, -1), (-1, 0), (0, 1), (1, 0))[side]
        column, row = round(4 * x) + 3 * dx, round(4 * z) + 3 * dz
        horizon = -30 if height > 1.5 else 0 if height > 1.2 else 45 if height > 0.6 else 60
        while (location := _location_id(column, row, side, horizon)) in self._locations:
            column, row = column + abs(dz), row + abs(dx)
        return location


def _furnish(room: Room, number: int, attempt: int) -> Layout:
    draws = Draws(_SEED, ROOMS.index(room), number, attempt)
    templates = _TEMPLATES[room]
    width, depth, ranges = _read_template(templates[number % len(templates)])
    kinds = [kind for kind, low, high in draws.shuffled(ranges) for _ in range(draws.between(low, high))]
    floor = _Floor(draws, width, depth)
    for position, kind in enumerate(kinds):
        floor.add(kind, (position + draws.random()) / len(kinds))
    start = _location_id(0, 0, draws.between(0, 3), 30)
    return Layout(f"{room}{number:02d}", room, tuple(floor.receptacles), start)


@cache
def room_layouts(room: Room) -> tuple[Layout, ...]:
    """Return the layouts of a room in order of their numbers; no two hold the same furniture."""
    layouts: list[Layout] = []
    seen: set[tuple[tuple[str, int], ...]] = set()
    for number in range(1, LAYOUTS_PER_ROOM + 1):
        for attempt in range(_MAX_ATTEMPTS):
            layout = _furnish(room, number, attempt)
            furniture = tuple(sorted(layout.counts.items()))
            if furniture not in seen:
                break
        seen.add(furniture)
        layouts.append(layout)
    return tuple(layouts)


@cache
def _by_name() -> dict[str, Layout]:
    return {layout.name: layout for room in ROOMS for layout in room_layouts(room)}


def get_layout(name: str) -> Layout:
    """Return a layout by name, such as ``"kitchen07"``.

    Raises:
        UnknownNameError: There is no such layout; the message lists near misses.
    """
    layouts = _by_name()
    if name not in layouts:
        raise unknown_name("layout", name, layouts)
    return layouts[name]
