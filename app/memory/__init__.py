"""What was said lately between a tenant's user and a bot."""

from app.memory.base import KEPT_FOR, KEPT_TURNS, Conversation, ConversationMemory, Talk, Turn
from app.memory.file import MemoryFile
from app.memory.local import KEPT_BOTS, LocalMemory
from app.memory.redis import RedisMemory

__all__ = [
    "KEPT_BOTS",
    "KEPT_FOR",
    "KEPT_TURNS",
    "Conversation",
    "ConversationMemory",
    "LocalMemory",
    "MemoryFile",
    "RedisMemory",
    "Talk",
    "Turn",
]
