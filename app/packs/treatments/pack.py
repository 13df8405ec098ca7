"""Treatments as a pack: what it is made of."""

from pathlib import Path

from fastapi import APIRouter

from app.pack import Kit, Pack, PackRuntime
from app.packs.treatments.api_runs import RUNS_PATH, build_runs_router
from app.packs.treatments.chunks import ChunkWork
from app.packs.treatments.lanes import PACK, Lanes
from app.packs.treatments.offline import propose
from app.packs.treatments.recommendation import PROMPT, RecommendationStage
from app.packs.treatments.run_jobs import RunJobs
from app.packs.treatments.stages import RECOMMENDATION

ROOT = Path(__file__).parent


def build(kit: Kit) -> PackRuntime:
    kit.messenger.serve(RECOMMENDATION, RecommendationStage(kit).handle)
    lanes = Lanes(kit)
    jobs, queues, schedules = RunJobs(kit, lanes, ChunkWork(kit, lanes)).declared()
    router = APIRouter()
    router.include_router(build_runs_router(kit, lanes))
    return PackRuntime(
        router=router,
        batch_paths=(RUNS_PATH,),
        jobs=jobs,
        queues=queues,
        schedules=schedules,
    )


TREATMENTS = Pack(
    name=PACK,
    title="Treatments",
    build=build,
    prompts=ROOT / "prompts",
    offline=lambda: {PROMPT: propose},
)
"""Named in `app.container.PACKS`."""
