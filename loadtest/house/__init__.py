"""One replica of a phase as processes of their own on this machine, furnished, for the gate and the capacity."""

from loadtest.house.errors import HouseError
from loadtest.house.furniture import Furniture
from loadtest.house.house import House, house

__all__ = ["Furniture", "House", "HouseError", "house"]
