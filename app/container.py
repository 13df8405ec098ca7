"""Builds and closes every backend: the one place that knows embedded from production."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import aiohttp
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from app.agent.breaker import Breakers
from app.agent.budget_store import DailyCaps
from app.agent.budgets import Budgets
from app.agent.cache import LruCache
from app.agent.loop import Agent
from app.agent.offline import OfflineRule
from app.agent.prompts import PromptLibrary
from app.agent.providers import Endpoint, build_routes, load_prices
from app.agent.routing import ModelRouter
from app.agent.tools import ToolExecutor, ToolRegistry
from app.clock import Clock, system_clock
from app.governance.audit import Audit
from app.governance.experiments import Experiments
from app.governance.flags import Flags, kill_switch
from app.governance.keys import KeyRing
from app.governance.policies import Policies
from app.http.health import Readiness
from app.http.rates import RateLimits
from app.integrations import registry as integrations
from app.integrations.hours import BusinessHours
from app.jobs.engine import Jobs
from app.knowledge.base import Embedder, VectorStore
from app.knowledge.ingest import Ingestor
from app.knowledge.retrieve import Retriever
from app.pack import Kit, Pack, PackRuntime, Ports
from app.packs.leads.pack import LEADS
from app.principal import Principal, Role, Tier
from app.settings import Settings
from app.storage import schema
from app.storage.base import micros
from app.storage.db import Database
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import Metrics

PACKS: tuple[Pack, ...] = (LEADS,)
LOCAL_TENANT = "local"
