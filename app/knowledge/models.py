"""Tables: what was put in, how far it got, and the pieces that came of it."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow


class DocumentStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class Document(TenantRow, Base):
    """A page as it was given. `body` stays, so that it can be indexed again without its source.

    `content_hash` is SHA-256 over title, body and tags; `embedder` names the model of the stored vectors, empty
    before the first time; `last_error` is a sentence for the one who put it in.
    """

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("tenant_id", "bot", "slug"),
        Index("ix_documents_status", "status"),
    )

    bot: Mapped[str] = mapped_column(String(64))
    slug: Mapped[str] = mapped_column(String(96))
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[Any]]
    content_hash: Mapped[str] = mapped_column(String(64))
    embedder: Mapped[str] = mapped_column(String(120), default="")
    status: Mapped[str] = mapped_column(String(16))
    last_error: Mapped[str | None] = mapped_column(Text, default=None)
    chunk_count: Mapped[int] = mapped_column(Integer, default=0)
    quarantined_count: Mapped[int] = mapped_column(Integer, default=0)
    updated_at: Mapped[datetime]


class ChunkRow(TenantRow, Base):
    """A chunk of a ready document; one with findings is in quarantine: without a vector it is never evidence."""

    __tablename__ = "chunks"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    heading: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    findings: Mapped[list[Any]]

    @property
    def quarantined(self) -> bool:
        return bool(self.findings)


class KnowledgeIndex(TenantRow, Base):
    """The version of a tenant's bot's knowledge: moves with every change, so that nothing cached outlives it."""

    __tablename__ = "knowledge_indexes"
    __table_args__ = (UniqueConstraint("tenant_id", "bot"),)

    bot: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
