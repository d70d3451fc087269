"""Run a sweep: compute row by row what has no result; a failed cell stops no other."""

import shutil
import time
from datetime import timedelta
from pathlib import Path

from videores.ablation import cells, collect, costs, executors, plan
from videores.data.synthetic import datasets, writing
from videores.errors import UserError
from videores.runtime.code_hash import hash_code

SMALL_DATA_DIR = Path("results", "small")  # copies of the embedded sets with few videos, which the smoke scale reads


def plan_sweep(table, scale, rows, seeds):
    """Plan the cells; at the smoke scale write the small copies that they read."""
    todo = plan.plan_cells(table, scale, rows, seeds, SMALL_DATA_DIR if scale == "smoke" else None)
    for root in {Path(cell.config.data.root) for cell in todo}:
        if root.parent == SMALL_DATA_DIR:
            writing.prepare_dataset(
                root, progress=False, videos=_count_few_videos(datasets.SETS[root.name]), name=root.name
            )
    return todo


def prepare_flow(todo):
    """Write the optical flow that cells read of embedded sets: datasets/<set>/flow, from the videos beside it."""
    roots = {Path(cell.config.data.root): cell.config.data.format for cell in todo if cell.config.data.stream == "flow"}
    for root, name in roots.items():
        if name in datasets.SETS and not (root / "spec.json").exists():
            videos, log = root.with_name("videos"), plan.RUNS / f"flow-{name}.log"
            writing.prepare_dataset(videos, progress=False, name=name)
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [
                str(cells.TOOLS / "prepare.py"),
                "csv",
                "--root",
                str(videos),
                "--out",
                str(root),
                "--flow",
                "dis",
            ]
            if executors.run_tool(command, log):
                raise UserError(f"no flow of {name} was written: see {log}")
            shutil.copy(videos / "spec.json", root)  # now it is that set, and complete


def _count_few_videos(embedded):
    """Return as few videos as balance, but enough for a few steps."""
    return {
        split: embedded.turn * max(1, (64 if split == "train" else 16) // embedded.turn) for split in embedded.videos
    }


def delete_results(todo):
    """Delete what these cells have computed."""
    for cell in todo:
        compressed = cells.compressed_path(cell)  # of kind `compress`
        for folder in (cells.cell_folder(cell), Path(f"{compressed}.results")):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (plan.RUNS / f"{cell.key}.json", cells.log_path(cell), compressed):
            path.unlink(missing_ok=True)


def check_same_code(todo):
    """Check that no cell was computed, or begun, by other code."""
    now = hash_code()
    others = [(cell, record) for cell in todo if (record := cells.read_record(cell)) and record["code"] != now]
    if others:
        cell, record = others[0]
        raise UserError(
            f"results must be of this code, {len(others)} cells are not, e.g. {cell.row} with seed {cell.seed} at "
            f"commit {str(record['commit'])[:12]}: --fresh computes them again, --reuse takes them as they are"
        )


def run_sweep(todo, table_costs, launch):
    """Compute what has no result yet, first what others need."""
    pending = [cell for cell in todo if not cells.is_done(cell)]
    for depth in sorted({cell.depth for cell in pending}):
        is_ready = lambda cell: all(map(cells.is_done, cell.parents))
        launch([cell for cell in pending if cell.depth == depth and is_ready(cell)], table_costs)


def run_cells(todo, table_costs):
    """Run cells here, one after the other."""
    for number, cell in enumerate(todo, 1):
        cells.prepare_cell(cell)
        began = time.monotonic()
        for command in (*cells.list_preparations(cell), cells.build_command(cell)):
            code = executors.run_tool(command, cells.log_path(cell))
            if code:
                break
        took = timedelta(seconds=round(time.monotonic() - began))
        status = _format_status(cell, code, table_costs)
        print(f"[{number}/{len(todo)}] {cell.row}, seed {cell.seed}: {status} ({took})", flush=True)
        if code in executors.STOP_EXIT_CODES:
            raise SystemExit(code)


def _format_status(cell, code, table_costs):
    if not cells.is_done(cell):
        if code in executors.STOP_EXIT_CODES:
            return "stopped; without --fresh the same command continues it"
        return f"failed{f' with exit code {code}' if code is not None else ''}: {cells.read_error(cell)}"
    values = collect.collect_cell(cell, table_costs.get(cell.key, {}))["values"]
    shown = ("clip", "video") if cell.kind != "decode" else ("frames_per_s", "wrong_frames")
    return ", ".join(f"{name} {values[name]:.1f}" for name in shown if values[name] is not None)


def make_slurm_launcher(options):
    """Return a launcher that runs cells as jobs of one array, and waits."""

    def launch(todo, table_costs):
        if todo:
            for cell in todo:
                cells.prepare_cell(cell)
            logs = (plan.RUNS / "slurm").resolve()
            logs.mkdir(exist_ok=True)
            for commands in (
                [c for cell in todo for c in cells.list_preparations(cell)],
                map(cells.build_command, todo),
            ):
                if commands := list(commands):
                    executors.submit_jobs(commands, logs, options)
        for cell in todo:
            print(f"{cell.row}, seed {cell.seed}: {_format_status(cell, None, table_costs)}", flush=True)

    return launch


def print_forecast(todo, table_costs):
    """Print how long the cells without a result will take; it trains some steps."""
    pending = [
        cell for cell in todo if not cells.is_done(cell) and not cell.members and "gmacs" in table_costs[cell.key]
    ]
    trained = [cell for cell in pending if cell.kind == "train" and cell.config.trainer.devices == 1]
    trained.sort(key=lambda cell: table_costs[cell.key]["gmacs"])
    if not trained:
        print("no forecast: none of the cells to compute trains in one process", flush=True)
        return
    try:
        seconds = costs.forecast_hours(pending, [trained[0], *trained[1:][-1:]], table_costs)
    except Exception as error:  # the cell will fail too, and be shown as failed
        print(f"no forecast: {(str(error).splitlines() or ['it left no message'])[-1]}", flush=True)
        return
    total = timedelta(seconds=round(sum(seconds.values())))
    print(
        f"forecast {total} for {len(pending)} cells one after the other, from {costs.TIMED_STEPS} measured steps of "
        "the cheapest and of the dearest",
        flush=True,
    )


def measure_all_costs(todo, table_costs, rounds):
    """Measure the milliseconds of a clip too, all networks in turns, that of a row once for each seed."""
    timed = [cell for cell in todo if "error" not in table_costs[cell.key] and not cell.members]
    latencies = {key: {"latency": ms} for key, ms in costs.measure_latencies(timed, rounds).items()}
    return {key: {**found, **latencies.get(key, {})} for key, found in table_costs.items()}
