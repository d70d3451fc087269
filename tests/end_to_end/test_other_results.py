"""A result never replaces that of another checkpoint or of another list under the same protocol."""

import json
import shutil

import pytest
from helpers.commands import forked, succeeded

PROTOCOL = "8x1@32_32_2x1_softmax-mean_tiny-test"
CASES = {  # name -> (arguments, whether they test the run's own checkpoint on its own list)
    "nothing": ((), True),
    "itself": (("--checkpoint", "{run}/checkpoints/best.ckpt"), True),
    "a copy of it": (("--checkpoint", "copy.ckpt"), True),
    "videos that moved": (("data.root=moved",), True),
    "a copy of the lists": (("data.splits=same",), True),
    "the last checkpoint": (("--checkpoint", "{run}/checkpoints/last.ckpt"), False),
    "fewer videos": (("data.splits=fewer",), False),
    "other labels": (("data.splits=relabelled",), False),
    "other videos": (("data.splits=others",), False),
    "both": (("--checkpoint", "{run}/checkpoints/last.ckpt", "data.splits=fewer"), False),
}
RUNS = [
    *(("new", name) for name in CASES),
    *(("old", name) for name in ("nothing", "a copy of the lists", "fewer videos")),
]


def write_lists(place, name, change=lambda rows: rows):
    """A folder of lists, the rows of whose test list were changed."""
    shutil.copytree(place / "data", place / name, ignore=lambda folder, names: {"train", "test"} & {*names})
    head, *rows = (place / "data" / "test.csv").read_text().splitlines()
    (place / name / "test.csv").write_text("\n".join([head, *change(rows)]) + "\n")


@pytest.fixture(scope="module")
def tests(trained, tmp_path_factory):
    """name -> (new or changed test folders, stdout) of CASES, for a new run and one without `lists` in env.json."""
    place = tmp_path_factory.mktemp("results")
    shutil.copytree(trained[0], place, dirs_exist_ok=True)
    shutil.copytree(place / "data", place / "moved")
    shutil.copyfile(place / "runs/tiny/checkpoints/best.ckpt", place / "copy.ckpt")
    write_lists(place, "same")
    write_lists(place, "fewer", lambda rows: rows[:4])
    write_lists(place, "relabelled", lambda rows: [rows[0].replace(",up,", ",down,"), *rows[1:]])
    write_lists(place, "others", lambda rows: rows[4:])
    runs = []
    for age, name in RUNS:
        runs.append(run := place / f"{age} {name}")
        shutil.copytree(place / "runs/tiny", run)
        if age == "old":
            record = json.loads((run / "env.json").read_text())
            record.pop("lists")
            (run / "env.json").write_text(json.dumps(record))
    cases = [("evaluate.py", "--run", run, *arguments(run)) for run in runs]
    *processes, report = forked([*cases, ("report.py", "--run", place / "new both")], place)
    succeeded(report)
    return place, {run.name: succeeded(process).stdout for run, process in zip(runs, processes, strict=True)}


def arguments(run):
    return [str(one).format(run=run) for one in CASES[run.name.partition(" ")[2]][0]]


@pytest.mark.parametrize(("age", "name"), RUNS)
def test_the_runs_own_result_stays_and_others_get_a_place_of_their_own(tests, trained, name, age):
    place, printed = tests
    run, is_own = place / f"{age} {name}", CASES[name][1]
    before = trained[0] / "runs/tiny/test" / PROTOCOL
    folders = {path.name for path in (run / "test").iterdir()}
    own = json.loads((run / "test" / PROTOCOL / "metrics.json").read_text())
    assert own["confusion"] == json.loads((before / "metrics.json").read_text())["confusion"]
    if is_own:
        assert folders == {PROTOCOL}
        return
    assert (run / "test" / PROTOCOL / "metrics.json").read_bytes() == (before / "metrics.json").read_bytes()
    (other,) = folders - {PROTOCOL}
    assert other.startswith(f"{PROTOCOL}+")
    result = json.loads((run / "test" / other / "metrics.json").read_text())
    source = next((text.partition("=")[2] for text in CASES[name][0] if text.startswith("data.splits")), "data")
    assert result["list"]["source"] == source
    assert (result["list"]["hash"] != own["list"]["hash"]) == (source != "data")
    assert ("last" in result["checkpoint"]["file"]) == ("--checkpoint" in CASES[name][0])
    assert source in printed[run.name]
    assert result["checkpoint"]["file"] in printed[run.name]


def test_each_checkpoint_and_list_has_its_own_place(tests):
    place, _ = tests
    places = [path.name for name in CASES for path in (place / f"new {name}" / "test").glob("*+*")]
    assert len(places) == len(set(places)) == 5


def test_the_report_names_checkpoint_and_list(tests):
    page = (tests[0] / "new both" / "report.html").read_text()
    assert "(checkpoints/last.ckpt on fewer)" in page
