"""What an allocation chose, small enough for one row: by customer, a bit for each treatment.

A customer is known by 64 bits of a hash of their id: one who was deleted in the meantime is simply not met any more.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

Plan = Mapping[int, int]
"""By `place_of` a customer's id: the chosen treatments, as bits in the order of the problem's treatments."""


def place_of(customer_id: str) -> int:
    return int.from_bytes(blake2b(customer_id.encode(), digest_size=8).digest())


def encode(plan: Plan) -> str:
    places = np.array(sorted(plan), dtype=np.uint64)
    masks = np.array([plan[int(place)] for place in places], dtype=np.uint64)
    return base64.b64encode(zlib.compress(places.tobytes() + masks.tobytes(), 6)).decode()


def decode(text: str) -> dict[int, int]:
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint64)
    half = numbers.size // 2
    return dict(zip(numbers[:half].tolist(), numbers[half:].tolist(), strict=True))


def names_in(mask: int, treatments: Sequence[str]) -> list[str]:
    return [name for bit, name in enumerate(treatments) if mask >> bit & 1]
