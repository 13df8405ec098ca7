"""Every setting of the app, with the rules that hold among them."""

import os
import socket
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url

from app.settings.values import KAFKA, PREFIX, REGION, CalendarKind, CrmKind, Environment, MailerKind
from infra.phases import PHASES, Phase, PhaseName, Relational, Vectors
from infra.pools import plan

_DEVELOPMENT_SECRET = "trellis-development-only"  # noqa: S105 - refused in production, see _check_production

_NEEDS = (
    ("model_strong_name", "model_url"),
    ("model_fallback_url", "model_url"),
    ("model_fallback_key", "model_fallback_url"),
    ("model_fallback_name", "model_fallback_url"),
    ("model_cached_input_usd_per_million", "model_input_usd_per_million"),
    ("embedding_url", "embedding_name"),
    ("embedding_name", "embedding_url"),
    ("embedding_key", "embedding_url"),
    ("vectors_key", "vectors_url"),
    ("vectors_grpc_port", "vectors_url"),
    ("vectors_write_replicas", "vectors_url"),
    ("vectors_shards", "vectors_url"),
    ("database_reader_url", "database_url"),
    ("database_reader_url", "redis_url"),
    ("database_direct_url", "database_url"),
    ("database_owner_url", "database_url"),
    ("kafka_user", "kafka_url"),
    ("kafka_user", "kafka_password"),
    ("kafka_password", "kafka_user"),
    ("otlp_headers", "otlp_url"),
)
"""Settings that mean nothing without another one."""


class Settings(BaseSettings):
    """The settings of one process.

    `home` holds everything that the embedded default writes. `region` names where this process runs, for prompts that
    are written for one. `session_secret` signs console cookies.
    `database_url` is the login that serves, which owns no table; `database_owner_url` the one that `trellis migrate`
    uses. `database_reader_url` is a replica, or one address of several. `database_pooled`: these two go through
    PgBouncer in transaction mode; then `database_direct_url` is the way past it, for workers. A statement of the app
    ends after `database_statement_s`. `database_pool_size` connections are in each pool (unset: as many as the phase's
    database lets each process have).
    `monitoring`: `trellis up` starts Prometheus and Alertmanager beside the server, where they are on the path.
    `prometheus_url` is the one that `trellis oncall` asks (unset: the one beside this machine's server).
    `otlp_url` is an OpenTelemetry collector (OTLP over HTTP, without /v1/traces), `otlp_headers` (name=value,
    comma-separated) what it is to be sent beside; `metrics_otlp` pushes metrics there too. `trace_sample` is the share
    of traces that is kept (unset: each in development, a tenth in production), beside each that failed or took longer
    than `trace_slow_s` (unset: the phase's p99, ten times that for a job). `trace_trusts_callers`: whoever calls also
    decides by its traceparent which of its requests are kept; for services behind a gateway of your own. Without a
    collector the last `traces_kept` traces are in `home`, for `trellis trace`. `sentry_dsn` is who is told of errors
    that nobody handled.
    `executor_id` names a worker among all of one PostgreSQL database; the machine's name and the process's number where
    it is not set. A process that is asked to end says so at `/readyz`, takes requests for `drain_s` more, until who
    sends them has seen it, and is gone `shutdown_grace_s` later: eight tenths of that are for what is under way.
    `kafka_url` (host:port, comma-separated) lets agents of a batch run in other processes; with `kafka_user` it signs
    in by SCRAM-SHA-512. Topics begin with `kafka_prefix`, and get `kafka_partitions`: so many processes may share one
    (0: you make the topics yourself).
    `vectors_url` is a Qdrant server (1.20 or newer) in place of the embedded index, asked by gRPC where
    `vectors_grpc_port` is set. An index that is made from now on gets `vectors_replicas` copies in its cluster, of
    which `vectors_write_replicas` must have a write before it counts (unset: more than half), and `vectors_shards`
    parts (unset: the server's own choice); `vectors_int8` also keeps vectors in a byte a number.
    `model_url` with `model_key` or `model_name` (or both) turns on an OpenAI-compatible endpoint. `model_timeout_s`
    bounds one call; `model_stall_s` is how long a streamed answer may be silent.
    `model_cache_control` marks what of a prompt the provider shall keep, for gateways to Anthropic's models.
    `treatments_solver_s` bounds the search for the best allocation; what is found by then is taken.
    `treatments_batch` is how many profiles of customers go into one model call at most, `treatments_calls` how many
    such calls this process has under way at a time, `treatments_tokens_per_minute` what they may take together.
    `treatments_lanes` is how many chunks of a run of treatments are under way at a time (0: as many as
    `worker_concurrency`); with several workers, their number times that. `treatments_keep_days` after a run ended, it
    is deleted with its results (0: never).
    `cache_max_mb` bounds what this process keeps of answers, replies, embeddings and retrievals together;
    `retrieval_cache_s` is how long a search that found something is good where nothing changed (0: never).
    `erase_again_s` after a person was erased, what was under way then is erased too.
    `mcp_servers_file` names the MCP servers whose tools join ours.
    `trusted_proxies` (comma-separated addresses) may tell a client's own address in X-Forwarded-For.
    `vendor_tenants` (comma-separated) are the tenants whose CRM, calendar and mail accounts these are;
    `crm_fields` (JSON) maps our contact properties to the CRM's field names; `google_subject` is whose calendar a
    delegated service account acts for. `github_token` turns on GitHub, which may be a server of your own at
    `github_url`. Sizes in bytes, times in seconds, money in USD.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, validate_default=True)

    environment: Environment = Environment.DEVELOPMENT
    phase: PhaseName = PhaseName.POC
    region: str = Field("", pattern=REGION)
    home: Path = Path(".trellis")
    host: str = "127.0.0.1"
    port: int = Field(8321, ge=1, le=65535)
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_json: bool = False
    monitoring: bool = True
    prometheus_url: str | None = Field(None, pattern=r"^https?://\S+$")
    otlp_url: str | None = Field(None, pattern=r"^https?://\S+$")
    otlp_headers: SecretStr | None = None
    metrics_otlp: bool = False
    trace_sample: float | None = Field(None, ge=0, le=1)
    trace_slow_s: float | None = Field(None, gt=0)
    trace_trusts_callers: bool = False
    traces_kept: int = Field(200, ge=0, le=10_000)
    sentry_dsn: SecretStr | None = None

    database_url: str | None = None
    database_reader_url: str | None = None
    database_direct_url: str | None = None
    database_owner_url: str | None = None
    database_pooled: bool = False
    database_pool_size: int | None = Field(None, ge=1, le=100)
    database_statement_s: float = Field(30, ge=1, le=3600)
    redis_url: str | None = None
    kafka_url: str | None = Field(None, pattern=KAFKA)
    kafka_tls: bool = False
    kafka_user: str | None = None
    kafka_password: SecretStr | None = None
    kafka_prefix: str = Field("trellis", pattern=r"^[a-z0-9_-]{1,40}$")
    kafka_partitions: int = Field(12, ge=0, le=1000)
    vectors_url: str | None = Field(None, pattern=r"^https?://\S+$")
    vectors_key: SecretStr | None = None
    vectors_timeout_s: float = Field(5, ge=1, le=60)
    vectors_grpc_port: int | None = Field(None, ge=1, le=65535)
    vectors_replicas: int = Field(1, ge=1, le=10)
    vectors_write_replicas: int | None = Field(None, ge=1, le=10)
    vectors_shards: int | None = Field(None, ge=1, le=100)
    vectors_int8: bool = False
    cache_max_mb: int = Field(32, ge=4, le=4096)
    retrieval_cache_s: float = Field(3600, ge=0, le=86400)
    worker: bool = True
    worker_concurrency: int = Field(4, ge=1, le=200)
    treatments_lanes: int = Field(0, ge=0, le=200)
    treatments_batch: int = Field(25, ge=1, le=100)
    treatments_calls: int = Field(8, ge=1, le=200)
    treatments_tokens_per_minute: int | None = Field(None, ge=1000)
    treatments_solver_s: float = Field(30, ge=1, le=3600)
    treatments_keep_days: int = Field(400, ge=0, le=36500)
    executor_id: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    drain_s: float = Field(0, ge=0, le=300)
    shutdown_grace_s: float = Field(10, ge=0, le=300)

    auth: bool = True
    trusted_proxies: str = ""
    session_secret: SecretStr = SecretStr(_DEVELOPMENT_SECRET)
    session_hours: float = Field(12, gt=0, le=168)
    console: bool = True
    max_body_bytes: int = Field(1 << 20, ge=1 << 10, le=1 << 30)
    max_batch_body_bytes: int = Field(20 << 20, ge=1 << 10, le=1 << 30)
    max_upload_bytes: int = Field(20 << 20, ge=1 << 10, le=200 << 20)

    model_url: str | None = Field(None, pattern=r"^https?://\S+$")
    model_key: SecretStr | None = None
    model_name: str | None = None
    model_strong_name: str | None = None
    model_fallback_url: str | None = Field(None, pattern=r"^https?://\S+$")
    model_fallback_key: SecretStr | None = None
    model_fallback_name: str | None = None
    model_input_usd_per_million: float | None = Field(None, ge=0)
    model_output_usd_per_million: float | None = Field(None, ge=0)
    model_cached_input_usd_per_million: float | None = Field(None, ge=0)
    model_cache_control: bool = False
    model_timeout_s: float = Field(30, gt=0, le=600)
    model_stall_s: float = Field(15, gt=0, le=600)
    embedding_url: str | None = Field(None, pattern=r"^https?://\S+$")
    embedding_key: SecretStr | None = None
    embedding_name: str | None = None
    embedding_dimension: int = Field(1536, ge=8, le=8192)

    tenant_daily_tokens: int = Field(5_000_000, ge=0)
    tenant_daily_usd: float = Field(20.0, ge=0)
    stream_kept_s: float = Field(120, ge=0, le=3600)
    stream_grace_s: float = Field(2, ge=0, le=60)
    decision_deadline_s: float = Field(60, gt=0, le=600)
    erase_again_s: float = Field(180, ge=0, le=86_400)
    writes_need_approval: bool = False
    mcp_servers_file: Path | None = None

    crm: CrmKind = CrmKind.LOCAL
    calendar: CalendarKind = CalendarKind.LOCAL
    mailer: MailerKind = MailerKind.LOCAL
    calendar_time_zone: str = "Europe/Berlin"
    mail_from: str = "hello@frostbaken.example"
    vendor_tenants: Annotated[frozenset[str], NoDecode] = frozenset({"local"})
    hubspot_token: SecretStr | None = None
    salesforce_instance_url: str | None = None
    salesforce_client_id: str | None = None
    salesforce_client_secret: SecretStr | None = None
    google_calendar_id: str | None = None
    google_service_account_file: Path | None = None
    google_subject: str | None = None
    crm_fields: dict[str, str] = Field(default_factory=dict)
    sendgrid_key: SecretStr | None = None
    github_token: SecretStr | None = None
    github_url: str = Field("https://api.github.com", pattern=r"^https?://\S+$")

    @field_validator("vendor_tenants", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return frozenset(filter(None, (name.strip() for name in value.split(",")))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_model()
        for name, needed in _NEEDS:
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise ValueError(f"{PREFIX}{name.upper()} needs {PREFIX}{needed.upper()}: set both, or neither")
        if self.metrics_otlp and self.otlp_url is None:
            raise ValueError("TRELLIS_METRICS_OTLP needs TRELLIS_OTLP_URL: set both, or neither")
        if self.vectors_write_replicas is not None and self.vectors_write_replicas > self.vectors_replicas:
            raise ValueError(
                f"TRELLIS_VECTORS_WRITE_REPLICAS is {self.vectors_write_replicas}, but an index has "
                f"{self.vectors_replicas} (TRELLIS_VECTORS_REPLICAS): no write could ever count"
            )
        if self.environment is Environment.PRODUCTION:
            self._check_production()
        return self

    def _check_model(self) -> None:
        if (self.model_key or self.model_name) and not self.model_url:
            raise ValueError(
                "TRELLIS_MODEL_KEY and TRELLIS_MODEL_NAME need TRELLIS_MODEL_URL, the endpoint's base address"
            )
        if self.model_url and not (self.model_key or self.model_name):
            raise ValueError(
                "TRELLIS_MODEL_URL needs a second variable: TRELLIS_MODEL_KEY (a hosted endpoint) "
                "or TRELLIS_MODEL_NAME (Ollama, vLLM)"
            )
        if (self.model_input_usd_per_million is None) != (self.model_output_usd_per_million is None):
            raise ValueError(
                "set both TRELLIS_MODEL_INPUT_USD_PER_MILLION and TRELLIS_MODEL_OUTPUT_USD_PER_MILLION, or neither"
            )

    def _check_production(self) -> None:
        if not self.auth:
            raise ValueError("TRELLIS_AUTH is off: production refuses to start without authentication")
        if (
            self.session_secret.get_secret_value() == _DEVELOPMENT_SECRET
            or len(self.session_secret.get_secret_value()) < 32
        ):
            raise ValueError("TRELLIS_SESSION_SECRET is the default or shorter than 32 characters: set a random one")
        if self.database_url is None and self.targets.stores.relational is not Relational.SQLITE:
            raise ValueError(
                f"TRELLIS_DATABASE_URL is not set: phase '{self.phase}' does not run on the embedded database"
            )
        if self.vectors_url is None and self.targets.stores.vectors is not Vectors.EMBEDDED:
            raise ValueError(
                f"TRELLIS_VECTORS_URL is not set: phase '{self.phase}' does not run on the embedded vector index"
            )

    @property
    def targets(self) -> Phase:
        """The declaration of the phase that this process serves."""
        return PHASES[self.phase]

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address: the embedded file in `home` where none is set."""
        return self.database_url or f"sqlite+aiosqlite:///{self.home.absolute() / 'trellis.db'}"

    @property
    def direct_database_url(self) -> str:
        """The database's address past a pooler, for what keeps a session: workers."""
        return self.database_direct_url or self.sqlalchemy_url

    @property
    def owner_database_url(self) -> str:
        """The address with the login that owns the tables, for migrations."""
        return self.database_owner_url or self.direct_database_url

    @property
    def pool_size(self) -> int:
        """Connections in each of this process's pools."""
        return self.database_pool_size or plan(self.targets).process

    @property
    def database_logins(self) -> frozenset[str]:
        """The logins that the app itself connects with, on the primary and on replicas; not the tables' owner's."""
        addresses = (self.database_url, self.database_reader_url, self.database_direct_url)
        return frozenset(login for url in addresses if url is not None and (login := make_url(url).username))

    @property
    def sample_ratio(self) -> float:
        """The share of traces that is kept whatever they tell."""
        if self.trace_sample is not None:
            return self.trace_sample
        return 1.0 if self.environment is Environment.DEVELOPMENT else 0.1

    @property
    def slow_s(self) -> float:
        """How long a request may take, in seconds, before its trace is kept for that."""
        targets = self.targets.targets
        return self.trace_slow_s or targets.answer_p99_s or targets.answer_p50_s

    @property
    def worker_id(self) -> str:
        """What this process signs the jobs with that it runs. An embedded database has one worker, under one name."""
        if self.executor_id is not None:
            return self.executor_id
        return f"{socket.gethostname()}-{os.getpid()}" if self.database_url else "embedded"

    @property
    def local_key_file(self) -> Path:
        """Where the embedded default keeps the key of this machine."""
        return self.home / "local.key"

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def revealed(secret: SecretStr | None) -> str | None:
    """The text of a secret that may not be set, for the client that sends it."""
    return secret.get_secret_value() if secret else None
