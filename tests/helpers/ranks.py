"""Commands on several ranks, forked from one process that has imported torch and Lightning once.

Each rank has the environment that torchrun gives it; a command costs a second instead of ten.
"""

import json
import subprocess
import sys

from helpers.commands import ROOT, environment

FORKER = """
import json, os, runpy, socket, sys
import numpy, torch
import videores.run


def run(path, arguments, environment, files):
    os.environ.update(environment)
    for stream, file in zip((1, 2), files):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = [path, *arguments]
    torch.seed(), numpy.random.seed()  # as in a new process: nothing may hang on the state that was forked
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as exit:
        return exit.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush(), sys.stderr.flush()
    return 0


tools, cases = json.load(sys.stdin)
results = []
for number, (world, name, *arguments) in enumerate(cases):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = dict(TORCHELASTIC_RUN_ID="test", MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE=world)
    common |= dict(LOCAL_WORLD_SIZE=world, GROUP_RANK=0)
    files, ranks = [f"ranks-{os.getpid()}-{number}.{stream}" for stream in ("out", "err")], []
    for rank in range(world):
        environment = {key: str(value) for key, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        ranks.append(os.fork())
        if ranks[-1] == 0:
            os._exit(run(os.path.join(tools, name), arguments, environment if world > 1 else {}, files))
    codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
    results.append([codes, *(open(file, errors="replace").read() for file in files)])
    [os.remove(file) for file in files]
json.dump(results, sys.stdout)
"""


def forked_ranks(cases, cwd):
    """Runs several commands, each (number of ranks, tool or path of a script, *arguments), one after the other.

    Returns a CompletedProcess for each, with the exit code of all ranks and what they printed together.
    """
    request = json.dumps([str(ROOT / "tools"), [[world, *map(str, case)] for world, *case in cases]])
    command = [sys.executable, "-c", FORKER]
    process = subprocess.run(
        command, cwd=cwd, env=environment(), input=request, capture_output=True, text=True, timeout=400
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)
    assert all(len(set(codes)) == 1 for codes, _, _ in results), results
    return [
        subprocess.CompletedProcess(case, codes[0], *printed)
        for case, (codes, *printed) in zip(cases, results, strict=True)
    ]
