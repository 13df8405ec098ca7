"""What other agents may ask of the knowledge (by MCP): the passages of a bot's documents that a question finds."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.agent.tools import Effect, Tool, ToolContext
from app.conversation.evidence import PASSAGES, passage_row
from app.http.bots import BotName
from app.knowledge.retrieve import Retriever

MOST: Final = 20


class SearchArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bot: BotName = Field(description="Whose documents: `handbook`, `leads`, `claims`, or a bot of the tenant's own.")
    query: str = Field(min_length=1, max_length=500)
    limit: int = Field(5, ge=1, le=MOST)


def build_tools(retriever: Retriever) -> tuple[Tool, ...]:
    async def run(context: ToolContext, args: SearchArgs) -> dict[str, Any]:
        found = await retriever.search(context.principal.tenant_id, args.bot, args.query, args.limit)
        return {PASSAGES: [passage_row(passage) for passage in found]}

    what = "Search the documents of one of the company's bots. A passage marked weak is no ground for an answer."
    return (Tool("search_knowledge", what, SearchArgs, run, Effect.READ, for_agents=True),)
