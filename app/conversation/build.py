"""The room put together, for the container and for tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.agent.loop import Agent
from app.agent.prompts import PromptLibrary
from app.agent.routing import ModelRouter
from app.cache.caches import Caches
from app.clock import Clock
from app.conversation.assistant import Assistant
from app.conversation.chores import Chores
from app.conversation.history import Historian
from app.conversation.kept import KeptAnswers
from app.conversation.phrases import Phrases
from app.conversation.replay import Replayer
from app.conversation.sameness import Sameness
from app.conversation.semantic import SemanticAnswers
from app.conversation.upstream import Upstream
from app.conversation.writing import DecisionWriter
from app.governance.audit import Audit
from app.governance.flags import Flags
from app.knowledge.base import Embedder, VectorStore
from app.knowledge.language import LanguageGuess
from app.knowledge.retrieve import Retriever
from app.knowledge.rewriting import FollowUps
from app.knowledge.versions import IndexVersions
from app.memory import ConversationMemory
from app.storage.db import Database
from app.telemetry.metrics import Metrics

PROMPTS: Final = Path(__file__).parent / "prompts"
"""For `PromptLibrary.load`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the room stands on. `prompts` holds `PROMPTS` too; `embedder`, of the questions in the semantic cache, is
    WordLlama."""

    db: Database
    clock: Clock
    metrics: Metrics
    audit: Audit
    flags: Flags
    prompts: PromptLibrary
    router: ModelRouter
    agent: Agent
    memory: ConversationMemory
    caches: Caches
    store: VectorStore
    embedder: Embedder
    versions: IndexVersions
    retriever: Retriever


def build_assistant(parts: Parts) -> Assistant:
    """Close it before what it stands on."""
    guess, chores = LanguageGuess.load(), Chores()
    phrases = Phrases.load(guess)
    semantic = SemanticAnswers(parts.store, parts.embedder, Sameness.load(guess))
    kept = KeptAnswers(parts.caches.answers, semantic, parts.flags, parts.metrics, chores, guess.is_small)
    upstream = Upstream(
        writer=DecisionWriter(parts.db, parts.audit),
        metrics=parts.metrics,
        agent=parts.agent,
        retriever=parts.retriever,
        rewriter=FollowUps.load(guess),
        phrases=phrases,
        kept=kept,
        chores=chores,
    )
    historian = Historian(parts.memory, parts.agent, parts.prompts)
    return Assistant(
        parts.clock,
        parts.metrics,
        parts.flags,
        parts.versions,
        parts.router,
        historian,
        kept,
        upstream,
        Replayer(upstream, phrases),
        chores,
    )
