"""How the claims assistant answers a member: its prompt or the experiment's, its tools, its bounds."""

from app.agent.tools import Effect
from app.conversation.spec import AssistantSpec
from app.errors import Forbidden
from app.governance.experiments import assign
from app.pack import Kit
from app.packs.claims.importing import PACK
from app.packs.claims.tools import BOT, TOOLS
from app.principal import Principal

PROMPT = "claims_answer"
REVISION = "1"
ROUTE = "cheap"


class Answering:
    """Says for each member what answers them."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def spec(self, principal: Principal) -> AssistantSpec:
        """The member's assistant. Raises Forbidden for an API key: the tools would have nobody to look up."""
        if principal.user_id is None:
            raise Forbidden(
                "The claims assistant talks to a signed-in member: get a token for them "
                "(POST /v1/users/{user_id}/token) and send that."
            )
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            running = await self._kit.experiments.active(session, principal.tenant_id, PACK)
        arm = assign(running, principal.user_id) if running else None
        plugins = await self._plugins(principal)
        return AssistantSpec(
            pack=PACK,
            bot=BOT,
            revision=":".join((REVISION, *plugins)),
            prompt=self._kit.prompts.get(PROMPT, arm.prompt_version if arm else None),
            route=ROUTE,
            tools=(*TOOLS, *plugins),
            personal=True,
            deadline_s=self._kit.settings.decision_deadline_s,
            experiment=running.name if running else None,
            arm=arm.arm if arm else None,
        )

    async def _plugins(self, principal: Principal) -> tuple[str, ...]:
        """Plug-in tools that read, for end users too, and that the tenant allows; none is unless somebody did."""
        if not self._kit.plugins:
            return ()
        executor = self._kit.executor
        allowed = await executor.policies.modes(principal.tenant_id)
        tools = [executor.registry.get(name) for name in self._kit.plugins if name in allowed]
        return tuple(tool.name for tool in tools if tool and tool.effect is Effect.READ and tool.for_users)
