"""`trellis leads`: import, training, learning, experiments."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.governance.experiments import Arm, ExperimentRepository
from app.governance.policies import PolicyRepository
from app.pack import CommandRunner, Kit
from app.packs.leads.decide import PROMPT
from app.packs.leads.gather import PACK
from app.packs.leads.intake import Batch, Line, csv_lines, json_lines, validated
from app.packs.leads.learning import Learning
from app.packs.leads.repository import ScoreModelRepository
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.scoring.thresholds import Economics
from app.packs.leads.scoring.train import ForwardMetrics, TrainReport, train
from app.packs.leads.service import LeadService
from app.principal import Principal

CHUNK = 200
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant to act for.")]
LOCAL = "local"


def build_commands(run: CommandRunner) -> typer.Typer:
    commands = typer.Typer(no_args_is_help=True, help="The lead agent.")
    out = Console()
    _add_import(commands, run, out)
    _add_decide_again(commands, run, out)
    _add_scores(commands, run, out)
    add_learn(commands, run)
    _add_policies(commands, run, out)
    _add_experiments(commands, run, out)
    return commands


def _add_import(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    @commands.command("import")
    def import_file(
        file: Annotated[Path, typer.Argument(help="A CSV or JSON Lines file.")],
        mapping: Annotated[list[str] | None, typer.Option("--map", help="field=column, once for each.")] = None,
        encoding: Annotated[str, typer.Option(help="The file's encoding.")] = "utf-8-sig",
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Store the leads of a file and queue their decisions. Lines that cannot be read are listed.

        Run again after an interruption: leads with an external_id that is stored already are skipped.
        """
        batches = list(read_file(file, columns(mapping or []), encoding))

        async def work(kit: Kit, principal: Principal) -> tuple[int, int]:
            service, stored, known = LeadService(kit), 0, 0
            for batch in track(batches, "Importing", console=out, transient=True):
                async with kit.ports.db.transaction(principal.tenant_id) as session:
                    ids, skipped = await service.create_many(session, principal, batch.leads)
                stored, known = stored + len(ids), known + skipped
            return stored, known

        stored, known = run(work, tenant)
        problems = [problem for batch in batches for problem in batch.problems]
        for problem in problems:
            out.print(f"line {problem.line}: {problem.problem}", markup=False)
        out.print(f"{stored} stored, {known} known already, {len(problems)} refused.")
        if problems:
            raise typer.Exit(1)


def _add_decide_again(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    @commands.command("decide-again")
    def decide_again(tenant: TenantOption = LOCAL) -> None:
        """Queue the leads that could not be decided, once the model answers again."""

        async def work(kit: Kit, principal: Principal) -> int:
            async with kit.ports.db.transaction(principal.tenant_id) as session:
                return await LeadService(kit).decide_again(session, principal)

        out.print(f"{run(work, tenant)} leads are queued again.")


def columns(mapping: list[str]) -> Mapping[str, str]:
    """`field=column` pairs. Raises InvalidInput for one that is not a pair."""
    pairs = [item.partition("=") for item in mapping]
    bad = [field for field, equals, column in pairs if not (field and equals and column)]
    if bad:
        raise InvalidInput(f"'--map {bad[0]}' is not of the form field=column, such as --map email=E-Mail.")
    return {field: column for field, _, column in pairs}


def read_file(file: Path, mapping: Mapping[str, str], encoding: str) -> Iterator[Batch]:
    """The file in batches. Raises InvalidInput where it cannot be read or has no leads."""
    try:
        text = file.read_text(encoding)
    except (OSError, UnicodeError, LookupError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}): check the path, or name its --encoding.") from None
    lines: Iterator[Line] = csv_lines(text, mapping) if file.suffix.lower() == ".csv" else json_lines(text)
    empty = True
    while chunk := list(islice(lines, CHUNK)):
        empty = False
        yield validated(iter(chunk))
    if empty:
        raise InvalidInput(f"{file} holds no leads.")


def _add_scores(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    @commands.command("train")
    def train_score(
        data: Annotated[Path, typer.Option(help="A CSV of past leads, oldest first.")],
        outcome: Annotated[str, typer.Option(help="The column that says whether the lead converted.")],
        exclude: Annotated[list[str] | None, typer.Option(help="A column that the score must not use.")] = None,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Train a score on past leads and store it as a proposal; `trellis leads use-score` puts it in force."""
        rows = read_rows(data)
        report = train(rows, outcome, exclude=exclude or (), floor=lead_rules())
        out.print(score_table(report))
        for column, why in ((c, why) for c, why in report.skipped.items() if c != outcome):
            out.print(f"Not used: {column} ({why})", markup=False)

        async def work(kit: Kit, principal: Principal) -> int:
            return await Learning(kit).store(principal, report)

        version = run(work, tenant)
        out.print(f"Stored as score model {version}, not in force: `trellis leads use-score {version}`.")
        if beaten_by_rules(report):
            out.print("The rules rank these leads at least as well: keep them.")

    @commands.command("scores")
    def list_scores(tenant: TenantOption = LOCAL) -> None:
        """List the stored score models."""

        async def work(kit: Kit, principal: Principal) -> Table:
            table = Table("Version", "State", "Made", "By", "ROC-AUC", "Top-decile lift", "Calibration error")
            async with kit.ports.db.reading(principal.tenant_id) as session:
                for row in await ScoreModelRepository(session, principal.tenant_id).all():
                    figures = [_figure(row.measures.get(name)) for name in MEASURES]
                    table.add_row(str(row.version), row.state, f"{row.created_at:%Y-%m-%d}", row.created_by, *figures)
            return table

        out.print(run(work, tenant))

    @commands.command("use-score")
    def use_score(version: int, tenant: TenantOption = LOCAL) -> None:
        """Put a stored score model in force; 0 goes back to the rules."""

        async def work(kit: Kit, principal: Principal) -> None:
            await Learning(kit).use(principal, version)

        run(work, tenant)
        out.print(f"{f'Score model {version}' if version else 'The rules'} is in force within 5 seconds.")


MEASURES = ("roc_auc", "top_decile_lift", "calibration_error")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV as text. Raises InvalidInput where the file cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as CSV ({error}).") from None


def score_table(report: TrainReport) -> Table:
    """The learned score beside the rules, both judged forward in time inside the training rows."""
    table = Table(
        "Score", "Judged on", *(name.replace("_", " ") for name in MEASURES), title="Inside the training rows"
    )
    for name, metrics in (("learned", report.metrics), ("rules only", report.floor)):
        if metrics is not None:
            table.add_row(name, f"{metrics.rows} later rows", *(_figure(getattr(metrics, m)) for m in MEASURES))
    return table


def beaten_by_rules(report: TrainReport) -> bool:
    """Whether the rules rank at least as well as the trained score, or nothing could be judged."""

    def auc(metrics: ForwardMetrics | None) -> float:
        return metrics.roc_auc if metrics else 0.0

    return report.metrics is None or auc(report.floor) >= auc(report.metrics)


def add_learn(commands: typer.Typer, run: CommandRunner) -> None:
    """`learn`: proposes thresholds fitted to the recorded outcomes."""
    out = Console()

    @commands.command("learn")
    def learn(
        capacity: Annotated[float, typer.Option(help="Share of leads that people can take over.")] = 0.1,
        contact_cost: Annotated[float, typer.Option(help="What one contact costs.")] = 1.0,
        benefit: Annotated[float, typer.Option(help="What one conversion brings, in the same unit.")] = 20.0,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Fit the thresholds to the recorded outcomes and propose them as a new version. Nothing changes by itself."""

        async def work(kit: Kit, principal: Principal) -> Table:
            found = await Learning(kit).propose(principal, capacity, Economics(contact_cost, benefit))
            table = Table(
                "", "In force", "Proposed", title=f"From {found.outcomes} outcomes, {found.converted} converted"
            )
            for name, value in found.before.items():
                table.add_row(name, f"{value:.3f}", f"{found.after[name]:.3f}")
            table.add_row("value per lead", f"{found.value_before:.3f}", f"{found.value_after:.3f}")
            table.caption = f"Proposed as version {found.version}: `trellis leads use-policy {found.version}`."
            return table

        out.print(run(work, tenant))


def _add_policies(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    @commands.command("policies")
    def list_policies(tenant: TenantOption = LOCAL) -> None:
        """List the versions of the thresholds."""

        async def work(kit: Kit, principal: Principal) -> Table:
            table = Table("Version", "State", "Thresholds", "Proposed by", "Put in force by")
            async with kit.ports.db.reading(principal.tenant_id) as session:
                for row in await PolicyRepository(session, principal.tenant_id).versions(PACK):
                    values = ", ".join(f"{name} {value:.3f}" for name, value in row.thresholds.items())
                    table.add_row(str(row.version), row.state, values, row.created_by, row.activated_by or "")
            return table

        out.print(run(work, tenant))

    @commands.command("use-policy")
    def use_policy(version: int, tenant: TenantOption = LOCAL) -> None:
        """Put a version of the thresholds in force, or an older one back."""

        async def work(kit: Kit, principal: Principal) -> None:
            await Learning(kit).activate(principal, version)

        run(work, tenant)
        out.print(f"Policy version {version} is in force.")


def _add_experiments(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    group = typer.Typer(no_args_is_help=True, help="A/B experiments on prompt versions and thresholds.")
    commands.add_typer(group, name="experiments")

    @group.command("start")
    def start(
        name: str,
        arm: Annotated[list[str], typer.Option(help="name:weight[:prompt=V][:policy=V]; the first is the control.")],
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Make an experiment and start it."""
        arms = [parse_arm(text) for text in arm]

        async def work(kit: Kit, principal: Principal) -> None:
            async with kit.ports.db.transaction(principal.tenant_id) as session:
                await check_arms(kit, session, principal, arms)
                row = await kit.experiments.create(session, principal, name, PACK, arms)
                await kit.experiments.start(session, principal, row.id)

        run(work, tenant)
        out.print(f"The experiment '{name}' runs. Its figures: GET /v1/metrics/business, or the console.")

    @group.command("stop")
    def stop(name: str, tenant: TenantOption = LOCAL) -> None:
        """End an experiment for good."""

        async def work(kit: Kit, principal: Principal) -> None:
            async with kit.ports.db.transaction(principal.tenant_id) as session:
                rows = await ExperimentRepository(session, principal.tenant_id).all()
                found = next((row for row in rows if row.name == name), None)
                if found is None:
                    raise InvalidInput(f"There is no experiment '{name}'.")
                await kit.experiments.stop(session, principal, found.id)

        run(work, tenant)
        out.print(f"The experiment '{name}' has ended.")


async def check_arms(kit: Kit, session: AsyncSession, principal: Principal, arms: Sequence[Arm]) -> None:
    """Raises NotFound for an arm with a prompt or policy version that does not exist: its leads would go undecided."""
    for arm in arms:
        if arm.prompt_version is not None:
            kit.prompts.get(PROMPT, arm.prompt_version)
        if arm.policy_version is not None:
            await PolicyRepository(session, principal.tenant_id).version(PACK, arm.policy_version)


def parse_arm(text: str) -> Arm:
    """`name:weight[:prompt=V][:policy=V]`. Raises InvalidInput."""
    name, _, rest = text.partition(":")
    weight, *options = rest.split(":")
    known = {"prompt": "prompt_version", "policy": "policy_version"}
    try:
        chosen = {known[option.partition("=")[0]]: int(option.partition("=")[2]) for option in options}
        return Arm(arm=name, weight=float(weight), **chosen)
    except (KeyError, ValueError):
        raise InvalidInput(
            f"'--arm {text}' is not of the form name:weight[:prompt=V][:policy=V], such as --arm new:1:prompt=2."
        ) from None
