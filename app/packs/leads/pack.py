"""The lead agent as a pack: what it is made of."""

from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.tools import Tool
from app.ids import new_id
from app.knowledge.language import LanguageGuess
from app.pack import Kit, Pack, PackRuntime, Ports
from app.packs.leads.act import Actor
from app.packs.leads.agent_tools import build_agent_tools
from app.packs.leads.api import BATCH_PATH, build_router
from app.packs.leads.commands import add_learn, build_commands
from app.packs.leads.decide import PROMPT, Decider
from app.packs.leads.enrich import Enricher
from app.packs.leads.evals.run import evaluate
from app.packs.leads.gather import PACK, Gatherer
from app.packs.leads.jobs import ACT_JOB, LeadJobs
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.offline import offline_decider
from app.packs.leads.pages import build_pages
from app.packs.leads.people import LeadsOfPerson
from app.packs.leads.replay import Replayer
from app.packs.leads.sample_data import SampleData
from app.packs.leads.scores import Scorer
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.service import LeadService
from app.packs.leads.tools import build_tools
from app.principal import Principal

ROOT = Path(__file__).parent


def build(kit: Kit) -> PackRuntime:
    service = LeadService(kit)
    enrich = Enricher(Lexicon.load(), LanguageGuess.load(), kit.settings.calendar_time_zone)
    decider = Decider(kit, Gatherer(kit, Scorer(kit, lead_rules()), enrich))
    jobs, queues, schedules = LeadJobs(kit, decider, Actor(kit)).declared()

    async def resume(session: AsyncSession, principal: Principal, decision_id: str) -> None:
        payload = {"tenant_id": principal.tenant_id, "decision_id": decision_id}
        await kit.jobs.enqueue(session, ACT_JOB, payload, job_id=f"{ACT_JOB}:{new_id('resume')}")

    return PackRuntime(
        router=build_router(kit, service),
        batch_paths=(BATCH_PATH,),
        pages=build_pages(kit, service),
        jobs=jobs,
        queues=queues,
        schedules=schedules,
        replay=Replayer(kit).replay,
        resume=resume,
        load_sample=SampleData(kit, service).load,
        people=(LeadsOfPerson(),),
        tools=build_agent_tools(kit.ports.db, service),
    )


def tools(ports: Ports) -> tuple[Tool, ...]:
    return build_tools(
        crm=ports.crm, calendar=ports.calendar, mailer=ports.mailer, retriever=ports.retriever, clock=ports.clock
    )


LEADS = Pack(
    name=PACK,
    title="Leads",
    build=build,
    tools=tools,
    prompts=ROOT / "prompts",
    offline=lambda: {PROMPT: offline_decider()},
    commands=build_commands,
    learn=add_learn,
    evaluate=evaluate,
)
