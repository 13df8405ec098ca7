"""Tables: what was put in, how far it got, and the pieces that came of it."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, false
from sqlalchemy import text as sql_text
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow


class DocumentStatus(StrEnum):
    """Of a document, and of each of its chunks."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class Document(TenantRow, Base):
    """A page as it was given. `body` stays, so that it can be indexed again without its source.

    `content_hash` is SHA-256 over what was handed in: title, text or bytes, tags. `body` is Markdown; of a document
    whose chunks were given, a JSON list of them. `embedder` names the model of the first generation's vectors, empty
    before the first time; `last_error` is a sentence for the one who put it in; `job_id` is the job that indexes it,
    None where it was put in without one; `warnings` say what of its file was repaired or left out.
    """

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("tenant_id", "bot", "slug"),
        Index("ix_documents_status", "status"),
        Index("ix_documents_of_bot", "tenant_id", "bot", "status", "id"),
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
    media_type: Mapped[str] = mapped_column(String(100), default="text/markdown", server_default="text/markdown")
    file_name: Mapped[str | None] = mapped_column(String(255), default=None)
    size_bytes: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    job_id: Mapped[str | None] = mapped_column(String(120), default=None)
    warnings: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    updated_at: Mapped[datetime]


class Upload(TenantRow, Base):
    """A file as it was sent, until its text is out and indexed; a retry begins from it. `id` is the document's."""

    __tablename__ = "document_uploads"

    id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ChunkRow(TenantRow, Base):
    """A chunk in one generation of the index ("" is the first); one with findings is in quarantine: without a vector
    it is never evidence. `status` and `last_error` say how far its vector is.
    """

    __tablename__ = "chunks"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    heading: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    findings: Mapped[list[Any]]
    generation: Mapped[str] = mapped_column(String(64), default="", server_default=sql_text("''"))
    status: Mapped[str] = mapped_column(String(16), default=DocumentStatus.READY, server_default="ready")
    last_error: Mapped[str | None] = mapped_column(Text, default=None)
    superseded: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())

    @property
    def quarantined(self) -> bool:
        return bool(self.findings)


class KnowledgeIndex(TenantRow, Base):
    """The version of a tenant's bot's knowledge: moves with every change, so that nothing cached outlives it."""

    __tablename__ = "knowledge_indexes"
    __table_args__ = (UniqueConstraint("tenant_id", "bot"),)

    bot: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    active: Mapped[str] = mapped_column(String(64), default="", server_default=sql_text("''"))
    previous: Mapped[str | None] = mapped_column(String(64), default=None)


class GenerationState(StrEnum):
    """`building` is filled beside the one that answers; `ready` may be switched to; `dropped` has no vectors."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    DROPPED = "dropped"


class GenerationRow(TenantRow, Base):
    """One way to index a bot's documents: an embedder and the sizes of chunks.

    The generation "" has no row: the settings' embedder and the default sizes. `report` holds what the evaluation
    set said of it beside the one that answered then; `bounds` the sizes in characters.
    """

    __tablename__ = "knowledge_generations"
    __table_args__ = (Index("ix_knowledge_generations_bot", "tenant_id", "bot"),)

    bot: Mapped[str] = mapped_column(String(64))
    embedder: Mapped[str] = mapped_column(String(120))
    bounds: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    documents_done: Mapped[int] = mapped_column(Integer, default=0)
    documents_total: Mapped[int] = mapped_column(Integer, default=0)
    report: Mapped[dict[str, Any]]
    last_error: Mapped[str | None] = mapped_column(Text, default=None)
    updated_at: Mapped[datetime]


class Question(TenantRow, Base):
    """One question of a bot's evaluation set, with the slugs of the documents that answer it."""

    __tablename__ = "knowledge_questions"
    __table_args__ = (UniqueConstraint("tenant_id", "bot", "digest"),)

    bot: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    question: Mapped[str] = mapped_column(Text)
    slugs: Mapped[list[Any]]
