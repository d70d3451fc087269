"""Run `tools/ablate.py`: from a table to its results, or to what they would be."""

from collections.abc import Sequence

from videores.ablation import cells, collect, costs, executors, plan, published, sweep, tables
from videores.ablation.spec import Table
from videores.errors import UserError
from videores.runtime.code_hash import hash_code

TIMING_ROUNDS = {"smoke": 1, "cpu": 20, "full": 20}  # of the measured latency


def run_table(
    name: str,
    table: Table,
    scale: str,
    *,
    rows: Sequence[str] | None,
    seeds: Sequence[int] | None,
    fresh: bool,
    reuse: bool,
    slurm: dict | None,
    judge: bool,
) -> int:
    """Compute what is missing, then write and print the table.

    Returns the exit code: 1 where a cell has no result or, with `judge`, an assertion fails.
    """
    todo = sweep.plan_sweep(table, scale, rows, seeds)
    published.read_published(name)  # a wrong one is told now, not after the sweep
    if fresh:
        sweep.delete_results(todo)
    if not reuse:
        sweep.check_same_code(todo)
    print(f"{name} at scale {scale}: {len(todo)} cells, {sum(map(_is_cell_pending, todo))} to compute", flush=True)
    sweep.prepare_flow(todo)
    shown = [*todo, *_collect_earlier_cells(name, table, scale, todo, reuse)]
    table_costs = costs.count_costs(shown)
    if scale != "smoke" and slurm is None and any(map(_is_cell_pending, todo)):
        code = executors.run_in_child(sweep.print_forecast, todo, table_costs)
        if code in executors.STOP_EXIT_CODES:
            raise SystemExit(code)
    sweep.run_sweep(todo, table_costs, sweep.run_cells if slurm is None else sweep.make_slurm_launcher(slurm))
    if any(cell.kind == "compress" for cell in shown):  # whose networks are known now
        table_costs = costs.count_costs(shown)
    if "latency" in table.columns:
        table_costs = sweep.measure_all_costs(shown, table_costs, TIMING_ROUNDS[scale])
    return write_results(
        name, table, scale, [collect.collect_cell(cell, table_costs[cell.key]) for cell in shown], reuse, judge
    )


def _collect_earlier_cells(name, table, scale, todo, reuse):
    """Collect the cells beside which these stand in the table.

    What is measured is measured of all together.
    """
    saved = tables.select_done(tables.load_cells(tables.table_folder(name, scale)))
    saved = [cell for cell in saved if reuse or cell["code"] == hash_code()]
    keys = {cell["key"] for cell in saved} - {cell.key for cell in todo}
    rows = {cell["row"] for cell in saved} & {cell.name for cell in plan.apply_scale(table, scale)}
    if not rows:
        return []
    planned = sweep.plan_sweep(table, scale, rows, {cell["seed"] for cell in saved})
    return [cell for cell in planned if cell.key in keys and not _is_cell_pending(cell.origin)]


def _is_cell_pending(cell):
    return not cells.is_done(cell)


def write_results(name, table, scale, found, reuse, judge):
    folder = tables.table_folder(name, scale)
    rows = [cell.name for cell in plan.apply_scale(table, scale)]
    tables.save_cells(folder, found, rows)
    tables.delete_stale_cells(folder, lambda cell: _is_current_cell(cell, table, scale, rows))
    whole = _select_current_cells(tables.load_cells(folder), found, reuse)  # with the rows and seeds of earlier sweeps
    files = tables.write_table(folder, name, table, scale, whole)
    outcomes = tables.judge_table(table, scale, whole)
    for line in tables.format_numbers(table, tables.summarize_rows(table, whole), published.read_published(name)):
        print(line)
    for one in outcomes:
        print(f"{one['outcome']:13s}{one['claim']}: {'; '.join(one['numbers'])}")
    print(f"wrote {folder}/{', '.join(files)}")
    failed = judge and any(one["outcome"] == "fails" for one in outcomes)
    return 1 if failed or any(cell["status"] != "done" for cell in found) else 0


def _select_current_cells(saved, found, reuse):
    """Select the cells of the code of `found`, or all on request.

    Other code may give other numbers.
    """
    codes = {cell["code"] for cell in found} | {None}  # of what was never begun
    kept = [cell for cell in saved if reuse or cell["code"] in codes]
    if len(kept) < len(saved):
        print(f"{len(saved) - len(kept)} cells of other code are not shown: --reuse shows them, --fresh computes them")
    return kept


def _is_current_cell(cell, table, scale, rows):
    """Return whether a saved cell is what the table asks for now."""
    if cell["row"] not in rows:
        return False
    now = sweep.plan_sweep(table, scale, [cell["row"]], [cell["seed"]])
    return cell["key"] in {planned.key for planned in now if planned.row == cell["row"]}


def dry_run(name: str, table: Table, scale: str, *, rows: Sequence[str] | None, seeds: Sequence[int] | None) -> None:
    """Print the cells and their counted costs, and check all configurations."""
    todo = sweep.plan_sweep(table, scale, rows, seeds)
    published.read_published(name)
    table_costs = costs.count_costs(todo)
    _check_networks_build(todo, table_costs)
    print(f"{name} at scale {scale}: {len(todo)} cells")
    for cell in todo:
        parents = f" of {', '.join(need.row for need in cell.parents)}" if cell.parents else ""
        print(f"  {cell.row}, seed {cell.seed} ({cell.kind}{parents}): " + " ".join([cell.base, *cell.overrides]))
        print(f"    {format_work(cell, table_costs[cell.key])}")


def _check_networks_build(todo, table_costs):
    bad = {cell.row: table_costs[cell.key]["error"] for cell in todo if "error" in table_costs[cell.key]}
    if bad:
        raise UserError("\n".join(f"the row {row}: {error}" for row, error in bad.items()))


def format_work(cell, cost):
    """Format steps and multiply-adds of a cell in a line; time is not measured."""
    if cell.kind == "decode":
        return "clips are read, without a network"
    listed, clips = costs.list_videos(cell.config.data), costs.count_step_clips(cell.config)
    about = f"{cost['params'] / 1e6:.3g} M parameters, {cost['gmacs']:.3g} GMAC a clip"
    if cell.kind == "measure":
        return about
    if listed is None:
        return f"{about}; the data is not here, so the number of steps is not known"
    train, test = int(listed[0] * cell.config.data.share), listed[1]
    tested = test * costs.count_views(cell.config.test)
    steps = costs.count_steps(cell.config, train) if cell.trains else 0
    gmacs = (steps * clips * (1 + costs.BACKWARD) + tested) * cost["gmacs"]
    amount = f"about {steps:,} steps of {clips} clips and {tested:,} test clips"
    return f"{about}; {amount}, {gmacs / 1e6:.3g} PMAC (time not measured)"
