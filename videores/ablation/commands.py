"""`tools/ablate.py`: from a table to its results, or to what they would be."""

from videores.ablation import collect, costs, executors, plan, published, sweep, tables
from videores.errors import UserError

ROUNDS = {"smoke": 1, "cpu": 20, "full": 20}  # of the measured latency


def run(name, table, scale, *, rows, seeds, fresh, reuse, slurm, judge):
    """Computes what is missing, writes and prints the table. Returns the exit code: 1 where a cell has no result or,
    with `judge`, an assertion fails."""
    todo = sweep.planned(table, scale, rows, seeds)
    published.read(name)  # a wrong one is told now, not after the sweep
    if fresh:
        sweep.clear(todo)
    if not reuse:
        sweep.refuse_other_code(todo)
    print(f"{name} at scale {scale}: {len(todo)} cells, {sum(map(is_pending, todo))} to compute", flush=True)
    shown = [*todo, *of_earlier_sweeps(name, table, scale, todo, reuse)]
    table_costs = sweep.counted(shown, executors.answer)
    if scale != "smoke" and slurm is None:
        sweep.tell_forecast(todo, table_costs, executors.answer)
    sweep.sweep(todo, table_costs, launcher(slurm))
    if "latency" in table.columns:
        table_costs = sweep.measured(shown, table_costs, ROUNDS[scale], executors.answer)
    return finish(name, table, scale, [collect.collect(cell, table_costs[cell.key]) for cell in shown], reuse, judge)


def of_earlier_sweeps(name, table, scale, todo, reuse):
    """The cells beside which these stand in the table: what is measured is measured of all together."""
    saved = tables.done(tables.load_cells(tables.folder_of(name, scale)))
    saved = [cell for cell in saved if reuse or cell["code"] == sweep.cells.code()]
    keys = {cell["key"] for cell in saved} - {cell.key for cell in todo}
    rows = {cell["row"] for cell in saved} & {cell.name for cell in plan.of_scale(table, scale)}
    if not rows:
        return []
    planned = sweep.planned(table, scale, rows, {cell["seed"] for cell in saved})
    return [cell for cell in planned if cell.key in keys and not is_pending(cell.origin)]


def is_pending(cell):
    return not sweep.cells.is_done(cell)


def launcher(slurm):
    return sweep.one_by_one(executors.forked) if slurm is None else sweep.on_slurm(slurm)


def finish(name, table, scale, found, reuse, judge):
    folder = tables.folder_of(name, scale)
    rows = [cell.name for cell in plan.of_scale(table, scale)]
    tables.save_cells(folder, found, rows)
    tables.forget(folder, lambda cell: is_current(cell, table, scale, rows))
    whole = of_one_code(tables.load_cells(folder), found, reuse)  # with the rows and seeds of earlier sweeps
    files = tables.write(folder, name, table, scale, whole)
    outcomes = tables.judged(table, scale, whole)
    for line in tables.numbers(table, tables.summaries(table, whole), published.read(name)):
        print(line)
    for one in outcomes:
        print(f"{one['outcome']:13s}{one['claim']}: {'; '.join(one['numbers'])}")
    print(f"wrote {folder}/{', '.join(files)}")
    failed = judge and any(one["outcome"] == "fails" for one in outcomes)
    return 1 if failed or any(cell["status"] != "done" for cell in found) else 0


def of_one_code(saved, found, reuse):
    """Those of the code of `found`, or all on request: other code may give other numbers."""
    codes = {cell["code"] for cell in found} | {None}  # of what was never begun
    kept = [cell for cell in saved if reuse or cell["code"] in codes]
    if len(kept) < len(saved):
        print(f"{len(saved) - len(kept)} cells of other code are not shown: --reuse shows them, --fresh computes them")
    return kept


def is_current(cell, table, scale, rows):
    """Whether a saved cell is what the table asks for now."""
    if cell["row"] not in rows:
        return False
    now = sweep.planned(table, scale, [cell["row"]], [cell["seed"]])
    return cell["key"] in {planned.key for planned in now if planned.row == cell["row"]}


def dry_run(name, table, scale, *, rows, seeds):
    """Prints the cells and what they cost by counting. All configurations are checked; no data is needed."""
    todo = sweep.planned(table, scale, rows, seeds)
    published.read(name)
    table_costs = costs.counted(todo)
    refuse_uncounted(todo, table_costs)
    print(f"{name} at scale {scale}: {len(todo)} cells")
    for cell in todo:
        print(
            f"  {cell.row}, seed {cell.seed} ({cell.kind}{f' of {cell.needs.row}' if cell.needs else ''}): "
            + " ".join([cell.base, *cell.overrides])
        )
        print(f"    {work(cell, table_costs[cell.key])}")


def refuse_uncounted(todo, table_costs):
    bad = {cell.row: table_costs[cell.key]["error"] for cell in todo if "error" in table_costs[cell.key]}
    if bad:
        raise UserError("\n".join(f"the row {row}: {error}" for row, error in bad.items()))


def work(cell, cost):
    """Steps and multiply-adds of a cell in a line; not measured."""
    listed, clips = costs.listed(cell.config.data), costs.clips_of_step(cell.config)
    about = f"{cost['params'] / 1e6:.3g} M parameters, {cost['gmacs']:.3g} GMAC a clip"
    if cell.kind == "measure":
        return about
    if listed is None:
        return f"{about}; the data is not here, so the number of steps is not known"
    train, test = int(listed[0] * cell.config.data.share), listed[1]
    tested = test * costs.views(cell.config.test)
    steps = costs.steps_of(cell.config, train) if cell.kind == "train" else 0
    gmacs = (steps * clips * (1 + costs.BACKWARD) + tested) * cost["gmacs"]
    amount = f"about {steps:,} steps of {clips} clips and {tested:,} test clips"
    return f"{about}; {amount}, {gmacs / 1e6:.3g} PMAC (time not measured)"
