"""The workers that say they are alive. The engine's own tables are made by `Jobs.migrate`, not by alembic."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base


class JobWorker(Base):
    """One row for each worker process on PostgreSQL; `seen_at` is the database's time of its last heartbeat."""

    __tablename__ = "job_workers"

    executor_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    version: Mapped[str] = mapped_column(String(100))
    seen_at: Mapped[datetime] = mapped_column(index=True)
