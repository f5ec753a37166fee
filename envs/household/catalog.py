"""What stands in a home and where: object types, receptacle types, and what goes where.

The type names and the properties (heatable, coolable, ...) are ALFRED's vocabulary, so that our games
read like real ones. Which object is kept where is our own common sense: every object type names the
receptacle types where one looks first (``usual``) and those where it may also be (``also``).
The generator places objects by this table, and the explorer searches by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

Room = Literal["kitchen", "livingroom", "bedroom", "bathroom"]
ROOMS: tuple[Room, ...] = ("kitchen", "livingroom", "bedroom", "bathroom")

OPENABLE = frozenset({"Cabinet", "Drawer", "Fridge", "LaundryHamper", "Microwave", "Safe"})

# How many objects the generator puts on one receptacle of a type; others take LARGE. The rules of the
# world know no such limit.
LARGE = 8
CAPACITY = {
    "ArmChair": 2, "BathtubBasin": 3, "Cabinet": 4, "CoffeeMachine": 1, "Drawer": 4, "GarbageCan": 3,
    "HandTowelHolder": 1, "LaundryHamper": 3, "Microwave": 2, "Ottoman": 2, "Safe": 3, "Shelf": 4,
    "SinkBasin": 4, "StoveBurner": 1, "Toaster": 1, "Toilet": 3, "ToiletPaperHanger": 1, "TowelHolder": 1,
}  # fmt: skip


@dataclass(frozen=True)
class ObjectType:
    """One type of object.

    Attributes:
        name: ALFRED's name, such as ``"ButterKnife"``.
        usual: Receptacle types where one looks first.
        also: Receptacle types that hold it too.
        properties: PDDL predicates that are true of it, besides ``pickupable``.
        movable: Whether it can be picked up.
    """

    name: str
    usual: tuple[str, ...]
    also: tuple[str, ...]
    properties: tuple[str, ...] = ()
    movable: bool = True

    @property
    def fits(self) -> tuple[str, ...]:
        """All receptacle types that can hold it, the usual ones first."""
        return self.usual + self.also


_PROPERTIES = {
    "h": "heatable",
    "c": "coolable",
    "w": "cleanable",
    "s": "sliceable",
    "t": "toggleable",
    "r": "isreceptacleobject",
}

# name | property letters | usual places | further places
_TABLE = """
Apple         | hcws | CounterTop Fridge DiningTable | SideTable GarbageCan SinkBasin Microwave
Bread         | hcs  | CounterTop Fridge DiningTable | GarbageCan Microwave SideTable
Egg           | hcw  | Fridge CounterTop | DiningTable SinkBasin GarbageCan Microwave SideTable
Lettuce       | cws  | Fridge CounterTop | DiningTable SinkBasin GarbageCan SideTable
Potato        | hcws | CounterTop Fridge SinkBasin | DiningTable GarbageCan Microwave SideTable
Tomato        | hcws | CounterTop Fridge SinkBasin | DiningTable GarbageCan Microwave SideTable
Bowl          | hcwr | CounterTop Cabinet DiningTable | Fridge Shelf SinkBasin Microwave SideTable Desk Dresser
Cup           | hcwr | CounterTop Cabinet SinkBasin | Fridge Shelf DiningTable Microwave SideTable
Mug           | hcwr | CounterTop CoffeeMachine Cabinet | Shelf SinkBasin DiningTable Microwave Fridge SideTable Desk
Plate         | hcwr | Cabinet CounterTop DiningTable | Shelf SinkBasin Fridge Microwave CoffeeTable SideTable
Pan           | cwr  | StoveBurner CounterTop Cabinet | SinkBasin DiningTable Fridge
Pot           | cwr  | StoveBurner Cabinet CounterTop | SinkBasin DiningTable Fridge Shelf
Kettle        | w    | StoveBurner CounterTop | Cabinet SinkBasin DiningTable Shelf
Fork          | w    | Drawer CounterTop | SinkBasin DiningTable SideTable
Spoon         | w    | Drawer CounterTop | SinkBasin DiningTable SideTable
Knife         | w    | Drawer CounterTop | SinkBasin DiningTable
ButterKnife   | w    | Drawer CounterTop DiningTable | SinkBasin SideTable
Ladle         | w    | Drawer CounterTop | SinkBasin DiningTable Cabinet
Spatula       | w    | Drawer CounterTop | SinkBasin DiningTable
DishSponge    | w    | SinkBasin CounterTop | Drawer Cabinet Cart
PepperShaker  |      | CounterTop Cabinet | Drawer Shelf DiningTable SideTable
SaltShaker    |      | CounterTop Cabinet | Drawer Shelf DiningTable SideTable
Glassbottle   | cw   | CounterTop Cabinet | Fridge Shelf GarbageCan SinkBasin DiningTable
WineBottle    | c    | Cabinet Fridge CounterTop | Shelf GarbageCan DiningTable SideTable
PaperTowelRoll|      | CounterTop Cabinet | Shelf GarbageCan DiningTable Drawer Toilet
SoapBottle    |      | CounterTop SinkBasin Cabinet | Toilet Shelf Drawer Cart GarbageCan
Vase          |      | Shelf SideTable CoffeeTable | CounterTop DiningTable Desk Dresser TVStand Cabinet Safe
Statue        |      | Shelf CoffeeTable Dresser | TVStand DiningTable SideTable Desk CounterTop Safe
CreditCard    |      | SideTable CoffeeTable Desk | Drawer Shelf DiningTable Sofa ArmChair Dresser CounterTop TVStand
KeyChain      |      | SideTable CoffeeTable Dresser | Drawer Sofa ArmChair Safe Shelf Desk DiningTable CounterTop
CellPhone     |      | Desk Bed SideTable | Sofa CoffeeTable DiningTable Dresser Drawer ArmChair Shelf
Laptop        |      | Desk CoffeeTable Bed | Sofa DiningTable ArmChair Ottoman Dresser TVStand
RemoteControl |      | Sofa CoffeeTable TVStand | ArmChair SideTable Drawer Ottoman Dresser DiningTable
Newspaper     |      | CoffeeTable Sofa SideTable | ArmChair DiningTable Ottoman GarbageCan Drawer TVStand
Pillow        |      | Sofa Bed ArmChair | Ottoman
Box           |  r   | DiningTable CoffeeTable Sofa | ArmChair Dresser Desk SideTable Shelf Cabinet
Book          |      | Desk Shelf Bed | CoffeeTable SideTable Drawer Sofa Dresser DiningTable TVStand
Pen           |      | Desk Drawer SideTable | Shelf CoffeeTable Dresser GarbageCan Bed
Pencil        |      | Desk Drawer SideTable | Shelf CoffeeTable Dresser GarbageCan Bed
Watch         |      | SideTable Dresser CoffeeTable | Drawer Desk Shelf Safe TVStand DiningTable
TissueBox     |      | SideTable CoffeeTable Toilet | Desk Dresser Drawer Shelf CounterTop Cabinet Cart
WateringCan   |      | CoffeeTable SideTable Shelf | DiningTable Dresser Desk Drawer
AlarmClock    |      | SideTable Desk Dresser | Shelf Drawer Bed
CD            |      | Desk Drawer Shelf | SideTable GarbageCan Safe Dresser
BaseballBat   |      | Bed Desk | Sofa ArmChair Dresser
BasketBall    |      | Bed ArmChair | Sofa Ottoman Dresser Desk
TennisRacket  |      | Bed Dresser | ArmChair Sofa Desk
TeddyBear     |      | Bed ArmChair | Sofa Ottoman Dresser Safe
Cloth         | w    | CounterTop LaundryHamper Drawer | SinkBasin BathtubBasin Bed Dresser Toilet Cabinet Cart Shelf
HandTowel     |      | HandTowelHolder CounterTop | SinkBasin Cabinet BathtubBasin Toilet Drawer LaundryHamper Cart
Towel         |      | TowelHolder BathtubBasin | LaundryHamper Toilet CounterTop Cart
ToiletPaper   |      | Toilet ToiletPaperHanger | CounterTop Cabinet Drawer Shelf Cart GarbageCan
Candle        |      | CounterTop Toilet Shelf | Drawer Cabinet BathtubBasin Cart SideTable
SoapBar       | w    | SinkBasin CounterTop BathtubBasin | Toilet Drawer Cabinet Shelf Cart GarbageCan
SprayBottle   |      | Cabinet CounterTop | Toilet Drawer Shelf Cart GarbageCan
ScrubBrush    | w    | Toilet CounterTop | SinkBasin BathtubBasin Cabinet Cart
Plunger       |      | Toilet Cabinet | CounterTop Cart
DeskLamp      | t    | Desk SideTable | Dresser Shelf CoffeeTable
"""

# What the generator puts into a room: type name, then the chance in percent that it is there at all.
_STOCK = {
    "kitchen": """Apple 90 Bread 85 Egg 85 Lettuce 80 Potato 90 Tomato 90 Bowl 90 Cup 90 Mug 95 Plate 90 Pan 85
        Pot 85 Kettle 40 Fork 85 Spoon 85 Knife 85 ButterKnife 80 Ladle 60 Spatula 80 DishSponge 90
        PepperShaker 85 SaltShaker 85 Glassbottle 50 WineBottle 50 PaperTowelRoll 50 SoapBottle 85 Vase 35
        Statue 25 CreditCard 25 CellPhone 20 Book 20""",
    "livingroom": """Book 50 Box 75 Bowl 35 Plate 25 CellPhone 60 CreditCard 80 KeyChain 85 Laptop 80 Newspaper 75
        Pillow 90 RemoteControl 95 Pen 40 Pencil 40 Statue 75 TissueBox 60 Vase 70 Watch 65 WateringCan 50
        Candle 20 DeskLamp 80""",
    "bedroom": """AlarmClock 85 BaseballBat 45 BasketBall 45 Book 90 Bowl 30 Box 50 CD 85 CellPhone 90 Cloth 45
        CreditCard 70 KeyChain 70 Laptop 80 Mug 50 Pen 85 Pencil 85 Pillow 95 TeddyBear 45 TennisRacket 40
        TissueBox 40 Statue 25 Vase 25 Watch 40 DeskLamp 90""",
    "bathroom": """Candle 80 Cloth 85 DishSponge 40 HandTowel 90 PaperTowelRoll 30 Plunger 65 ScrubBrush 65
        SoapBar 95 SoapBottle 90 SprayBottle 85 TissueBox 50 ToiletPaper 95 Towel 75""",
}


def _read_types() -> dict[str, ObjectType]:
    types: dict[str, ObjectType] = {}
    for line in _TABLE.strip().splitlines():
        name, letters, usual, also = (cell.strip() for cell in line.split("|"))
        properties = tuple(_PROPERTIES[letter] for letter in letters)
        types[name] = ObjectType(
            name, tuple(usual.split()), tuple(also.split()), properties, movable="toggleable" not in properties
        )
    return types


def _read_stock(text: str) -> dict[str, float]:
    words = text.split()
    return {name: int(percent) / 100 for name, percent in zip(words[::2], words[1::2], strict=True)}


OBJECT_TYPES: dict[str, ObjectType] = _read_types()
STOCK: dict[str, dict[str, float]] = {room: _read_stock(text) for room, text in _STOCK.items()}


@cache
def by_lower_name() -> dict[str, ObjectType]:
    """Return the object types by their lower-case name, as the world's texts print them."""
    return {name.lower(): kind for name, kind in OBJECT_TYPES.items()}
