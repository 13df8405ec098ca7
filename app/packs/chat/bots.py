"""Bots: how each answers, kept at hand so that an answer from a cache asks no database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from cachetools import LRUCache
from sqlalchemy import select, union
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.prompts import Prompt
from app.agent.tools import Effect
from app.cache.known import Known
from app.conversation.spec import AssistantSpec
from app.errors import Forbidden, InvalidInput, NotFound
from app.governance.experiments import Arm, Definition, assign
from app.ids import new_id
from app.knowledge.base import Namespace
from app.knowledge.models import KnowledgeIndex
from app.knowledge.repository import IndexRepository
from app.pack import Kit
from app.packs.chat.models import Bot
from app.packs.chat.schemas import BotOut, BotPage, BotSettings
from app.principal import Principal, Role, Tier
from app.storage.repository import TenantRepository

PACK: Final = "chat"
PROMPT: Final = "chat_answer"
KNOWN_S: Final = 1.0
KNOWN_BOTS: Final = 10_000
_TIERS: Final = {tier: rank for rank, tier in enumerate(Tier)}


class BotRepository(TenantRepository[Bot]):
    model = Bot
    noun = "bot"

    async def named(self, name: str) -> Bot | None:
        return await self.first(Bot.name == name)

    async def names(self, after: str | None, limit: int) -> Sequence[str]:
        """Names in order, from behind `after`: of bots with settings, and of those that have documents alone."""
        set_up = select(Bot.name).where(Bot.tenant_id == self.tenant_id)
        known = select(KnowledgeIndex.bot).where(KnowledgeIndex.tenant_id == self.tenant_id)
        every = union(set_up, known).subquery()
        behind = [every.c.name > after] if after else []
        found = await self.session.scalars(select(every.c.name).where(*behind).order_by(every.c.name).limit(limit))
        return found.all()


@dataclass(frozen=True, slots=True)
class _Known:
    """A bot as it was read: its settings, and the tenant's running experiment. `revision` never comes again, also not
    for a bot that is removed and set up anew."""

    settings: BotSettings
    revision: str
    running: Definition | None
    tools: tuple[str, ...]
    tools_for_users: tuple[str, ...]


class Bots:
    """The bots of every tenant; a change is seen by other processes within `KNOWN_S` seconds."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._known: Known[tuple[str, str], _Known] = Known(self._read, ttl_s=KNOWN_S, size=KNOWN_BOTS)
        self._specs: LRUCache[tuple[str, str, str, tuple[str, ...], str | None], AssistantSpec] = LRUCache(KNOWN_BOTS)

    async def spec(self, principal: Principal, name: str) -> AssistantSpec:
        """How the bot answers this user.

        Raises NotFound for a bot without settings and documents, and for an end user where it is not open to them;
        Forbidden below its tier.
        """
        return self._spec(principal, name, await self._known.get((principal.tenant_id, name)))

    async def as_decided(self, principal: Principal, name: str, prompt_version: int | None) -> AssistantSpec:
        """How the bot answers now, with the prompt version of a decision. Raises NotFound."""
        known = await self._known.get((principal.tenant_id, name))
        return replace(
            self._build(name, known, known.tools, None), prompt=self._instructed(known.settings, prompt_version)
        )

    def peek(self, principal: Principal, name: str) -> AssistantSpec | None:
        """As `spec`, from memory alone; None where the bot was not read within the last second."""
        known = self._known.peek((principal.tenant_id, name))
        return None if known is None else self._spec(principal, name, known)

    async def get(self, principal: Principal, name: str) -> BotOut:
        """Raises NotFound."""
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            bot = await BotRepository(session, principal.tenant_id).named(name)
            if bot is not None:
                return BotOut.of(bot)
            await self._require_documents(session, principal.tenant_id, name)
        return BotOut.untouched(name)

    async def list(self, principal: Principal, cursor: str | None, limit: int) -> BotPage:
        """Every bot that can be asked, by name; `cursor` is the last name of the page before."""
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            repository = BotRepository(session, principal.tenant_id)
            names = await repository.names(cursor, limit + 1)
            set_up = {bot.name: bot for bot in await repository.all(Bot.name.in_(names[:limit]))}
        items = [BotOut.of(set_up[name]) if name in set_up else BotOut.untouched(name) for name in names[:limit]]
        return BotPage(items=items, next_cursor=items[-1].name if len(names) > limit else None)

    async def offered(self, principal: Principal, most: int) -> Sequence[BotOut]:
        """As `list`, those that somebody set up first: the others are mostly what another pack answers from."""
        return sorted((await self.list(principal, None, most)).items, key=lambda bot: (bot.revision == 0, bot.name))

    async def put(self, session: AsyncSession, principal: Principal, name: str, settings: BotSettings) -> BotOut:
        """Sets the bot up; the same settings again change nothing. Tell `changed` after the commit.

        Raises Forbidden below the role 'admin', InvalidInput for a prompt version or a tool that there is not.
        """
        principal.require(Role.ADMIN)
        await self._check(principal, settings)
        repository = BotRepository(session, principal.tenant_id)
        now, values = self._kit.ports.clock(), settings.model_dump(mode="json")
        bot = await repository.named(name)
        if bot is None:
            bot = repository.add(Bot(id=new_id("bot"), created_at=now, name=name, revision=0))
        elif bot.settings == values:
            return BotOut.of(bot)
        bot.settings, bot.revision, bot.updated_at = values, bot.revision + 1, now
        await session.flush()
        await self._kit.audit.record(session, principal, "bot.changed", name, {"revision": bot.revision})
        return BotOut.of(bot)

    async def remove(self, session: AsyncSession, principal: Principal, name: str) -> None:
        """Takes the settings away; documents stay, and answer by the defaults. Raises Forbidden, NotFound."""
        principal.require(Role.ADMIN)
        repository = BotRepository(session, principal.tenant_id)
        bot = await repository.named(name)
        if bot is None:
            raise repository.not_found(name)
        await session.delete(bot)
        await self._kit.audit.record(session, principal, "bot.removed", name, {})

    def changed(self, principal: Principal, name: str) -> None:
        """Forgets what was at hand."""
        self._known.forget((principal.tenant_id, name))

    async def _read(self, key: tuple[str, str]) -> _Known:
        tenant_id, name = key
        # Both are asked for next: one round trip in the place of three.
        self._kit.executor.policies.warm(tenant_id)
        self._kit.generations.versions.warm(Namespace(tenant_id, name))
        async with self._kit.ports.db.reading(tenant_id) as session:
            bot = await BotRepository(session, tenant_id).named(name)
            if bot is None:
                await self._require_documents(session, tenant_id, name)
            running = await self._kit.experiments.active(session, tenant_id, PACK)
        settings = BotSettings.model_validate(bot.settings) if bot else BotSettings()
        allowed = await self._kit.executor.policies.modes(tenant_id)
        tools = tuple(tool for tool in settings.tools if tool in allowed)
        registry = self._kit.executor.registry
        for_users = tuple(name for name in tools if (tool := registry.get(name)) and tool.for_users)
        return _Known(settings, f"{bot.id}.{bot.revision}" if bot else "0", running, tools, for_users)

    async def _require_documents(self, session: AsyncSession, tenant_id: str, name: str) -> None:
        if (await IndexRepository(session, tenant_id).state(name)).version == 0:
            raise _no_bot(name)

    def _spec(self, principal: Principal, name: str, known: _Known) -> AssistantSpec:
        if principal.role is Role.USER and not known.settings.open_to_users:
            raise _no_bot(name)
        if _TIERS[principal.tier] < _TIERS[known.settings.min_tier]:
            raise Forbidden(
                f"The bot '{name}' is for the tier '{known.settings.min_tier}': this is '{principal.tier}'."
            )
        arm = assign(known.running, principal.user) if known.running else None
        tools = known.tools_for_users if principal.role is Role.USER else known.tools
        key = (principal.tenant_id, name, known.revision, tools, arm.arm if arm else None)
        spec = self._specs.get(key)
        if spec is None or (known.running is not None and spec.experiment != known.running.name):
            spec = self._specs[key] = self._build(name, known, tools, arm)
        return spec

    def _build(self, name: str, known: _Known, tools: tuple[str, ...], arm: Arm | None) -> AssistantSpec:
        settings = known.settings
        return AssistantSpec(
            pack=PACK,
            bot=name,
            revision=known.revision,
            prompt=self._prompt(settings, arm),
            route=settings.route,
            tools=tools,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            passages=settings.passages,
            tags=settings.tags,
            needs_evidence=settings.needs_evidence,
            semantic_threshold=settings.semantic_threshold,
            cached=settings.cached and settings.temperature == 0,
            history_tokens=settings.history_tokens,
            deadline_s=self._kit.settings.decision_deadline_s,
            experiment=known.running.name if known.running else None,
            arm=arm.arm if arm else None,
        )

    def _prompt(self, settings: BotSettings, arm: Arm | None) -> Prompt:
        return self._instructed(settings, arm.prompt_version if arm and arm.prompt_version else settings.prompt_version)

    def _instructed(self, settings: BotSettings, version: int | None) -> Prompt:
        prompt = self._kit.prompts.get(PROMPT, version)
        return prompt.instructed(settings.instructions) if settings.instructions.strip() else prompt

    async def _check(self, principal: Principal, settings: BotSettings) -> None:
        if settings.prompt_version is not None:
            self._known_version(settings.prompt_version)
        allowed = await self._kit.executor.policies.modes(principal.tenant_id)
        for name in settings.tools:
            tool = self._kit.executor.registry.get(name)
            if tool is None or tool.effect is not Effect.READ:
                raise InvalidInput(f"'{name[:64]}' is not a tool that reads: a bot may have no other.")
            if name not in allowed:
                raise InvalidInput(f"The tool '{name}' is not allowed to this tenant: allow it first (trellis tools).")

    def _known_version(self, version: int) -> None:
        known = [prompt.version for prompt in self._kit.prompts.versions(PROMPT)]
        if version not in known:
            raise InvalidInput(f"There is no version {version} of the prompt '{PROMPT}': there is {known}.")


def _no_bot(name: str) -> NotFound:
    """Also for an end user whom the bot is not open to: they are told nothing of the tenant's other bots."""
    return NotFound(
        f"There is no bot '{name[:64]}': give it documents (POST /v1/bots/{name[:64]}/documents) or settings "
        f"(PUT /v1/bots/{name[:64]}; end users may ask it where 'open_to_users' is true)."
    )
