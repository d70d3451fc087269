"""Say where committed cells are from: command, commit, day, machine, and whether the code is the present one."""

from videores.ablation import exports, tables
from videores.runtime.code_hash import hash_code


def format_command(name: str, about, cells, scale: str) -> str:
    """Return the command that computes these cells of a table."""
    seeds = sorted({cell["seed"] for cell in cells})
    usual = sorted(about.scales[scale].seeds or about.seeds)
    option = "" if seeds == usual else f" --seeds {','.join(map(str, seeds))}"
    return f"python tools/ablate.py --table {name} --scale {scale}{option}"


def list_commits(cells) -> list[str]:
    """List the commits that cells are of."""
    return sorted({exports.format_commit(cell) for cell in cells})


def list_days(cells) -> list[str]:
    """List the days on which cells were begun."""
    return sorted({cell["start"][:10] for cell in cells if cell.get("start")})


def list_machines(cells) -> list[str]:
    """List the machines of cells, with threads, versions and precision."""
    return sorted({_format_machine(cell) for cell in cells if cell.get("hardware")})


def _format_machine(cell):
    hardware, versions = cell["hardware"], cell["versions"]
    gpus = f" {', '.join(hardware['gpus'])}" if hardware["gpus"] else " no GPU"
    threads = f"{hardware['threads']} thread(s) a process on {hardware['cores']} cores"
    model = f" {hardware['model']}," if "model" in hardware else ""  # older runs do not say it
    what = f"{threads} of {hardware['machine']} ({hardware['cpu']}),{model}{gpus}"
    return f"{what}; torch {versions['torch']}, lightning {versions['lightning']}, {cell['precision']}"


def list_rows_of_other_code(cells) -> list[str]:
    """List the rows with a cell whose code, which can change a result, differs from the present one."""
    return [row for row, found in tables.collect_rows(cells).items() if any(c["code"] != hash_code() for c in found)]
