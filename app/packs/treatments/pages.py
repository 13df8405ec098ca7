"""The treatments' part of the console: runs are in `run_pages`, customers and their stories in `customer_pages`."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter

from app.pack import Kit
from app.packs.treatments.customer_pages import CUSTOMERS, add_customers
from app.packs.treatments.lanes import Lanes
from app.packs.treatments.run_pages import TREATMENTS, add_runs
from app.packs.treatments.runs import RunService
from app.web.pack_pages import NavEntry, PackPages

HERE: Final = Path(__file__).parent


def build_pages(kit: Kit, lanes: Lanes) -> PackPages:
    routes = APIRouter()
    add_runs(routes, kit, RunService(kit, lanes))
    add_customers(routes, kit)
    return PackPages(
        router=routes,
        nav=(NavEntry("Treatments", TREATMENTS), NavEntry("Customers", CUSTOMERS)),
        templates=HERE / "templates",
        static=HERE / "static",
    )
