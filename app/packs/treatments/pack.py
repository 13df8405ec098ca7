"""Treatments as a pack: what it is made of."""

from pathlib import Path

from fastapi import APIRouter

from app.pack import Kit, Pack, PackRuntime
from app.packs.treatments.allocating import AllocationStage
from app.packs.treatments.allocation_jobs import allocation_jobs
from app.packs.treatments.api_allocation import build_allocation_router
from app.packs.treatments.api_data import DATA_PATHS, build_data_router
from app.packs.treatments.api_results import build_results_router
from app.packs.treatments.api_runs import RUNS_PATH, build_runs_router
from app.packs.treatments.chunks import ChunkWork
from app.packs.treatments.commands import build_commands
from app.packs.treatments.data_stage import DataStage
from app.packs.treatments.evaluating import EvaluationStage
from app.packs.treatments.journey_stage import JourneyStage
from app.packs.treatments.lanes import PACK, Lanes
from app.packs.treatments.offline import propose
from app.packs.treatments.pages import build_pages
from app.packs.treatments.people import TreatmentsOfPerson
from app.packs.treatments.purging import purge_job
from app.packs.treatments.recommendation import PROMPT, RecommendationStage
from app.packs.treatments.run_jobs import RunJobs
from app.packs.treatments.runs import RunService
from app.packs.treatments.sample_data import SampleData
from app.packs.treatments.stages import ALLOCATION, DATA, EVALUATION, JOURNEY, RECOMMENDATION
from app.packs.treatments.story import Stories
from app.packs.treatments.tools import build_tools

ROOT = Path(__file__).parent


def build(kit: Kit) -> PackRuntime:
    kit.messenger.serve(DATA, DataStage(kit).handle)
    kit.messenger.serve(JOURNEY, JourneyStage(kit).handle)
    kit.messenger.serve(RECOMMENDATION, RecommendationStage(kit).handle)
    kit.messenger.serve(ALLOCATION, AllocationStage(kit).handle)
    kit.messenger.serve(EVALUATION, EvaluationStage(kit).handle)
    lanes = Lanes(kit)
    jobs, queues, schedules = RunJobs(kit, lanes, ChunkWork(kit, lanes)).declared()
    more_jobs, more_queues, more_schedules = allocation_jobs(kit)
    purge, nightly = purge_job(kit)
    router = APIRouter()
    router.include_router(build_data_router(kit))
    router.include_router(build_allocation_router(kit))
    router.include_router(build_runs_router(kit, lanes))
    router.include_router(build_results_router(kit))
    return PackRuntime(
        router=router,
        batch_paths=(RUNS_PATH, *DATA_PATHS),
        pages=build_pages(kit, lanes),
        jobs=(*jobs, *more_jobs, purge),
        queues=(*queues, *more_queues),
        schedules=(*schedules, *more_schedules, nightly),
        load_sample=SampleData(kit).load,
        people=(TreatmentsOfPerson(kit),),
        tools=build_tools(kit.ports.db, RunService(kit, lanes), Stories(kit)),
    )


TREATMENTS = Pack(
    name=PACK,
    title="Treatments",
    build=build,
    prompts=ROOT / "prompts",
    offline=lambda: {PROMPT: propose},
    commands=build_commands,
)
"""Named in `app.container.PACKS`."""
