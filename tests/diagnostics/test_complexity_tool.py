"""tools/complexity.py as users call it, and the committed page that it writes."""

import csv
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.figures import assert_legible, record_figures, text_boxes

import videores
from videores.diagnostics import complexity
from videores.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Runs the tool in an empty folder: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["complexity.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools" / "complexity.py"), run_name="__main__")
        return ended.value.code or 0, *capsys.readouterr()

    return call


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_of_a_configuration_it_counts_network_clip_and_views(tool, tmp_path):
    code, printed, _ = tool("--cfg", "r2plus1d_ucf101.yaml")
    assert code == 0
    folder = tmp_path / "results" / "complexity" / "r2plus1d_ucf101"
    assert sorted(path.name for path in folder.iterdir()) == ["pareto.png", "pareto.svg", "table.csv", "table.md"]
    (row,) = table(folder / "table.csv")
    assert (row["model"], row["params"], row["frames"], row["size"]) == (
        "r2plus1d_18 dropout=0.5",
        "31505325",
        "16",
        "112",
    )
    assert float(row["gmacs_video"]) == pytest.approx(10 * float(row["gmacs"]))
    assert (folder / "table.md").read_text() in printed
    assert "results/complexity/r2plus1d_ucf101/table.csv" in printed


def test_of_a_configuration_it_counts_the_classes_of_the_data(tool, tmp_path):
    rows = []
    for more in ((), ("--classes", "400")):
        assert tool("--cfg", "r3d_motion", *more)[0] == 0
        rows += table(tmp_path / "results" / "complexity" / "r3d_motion" / "table.csv")
    assert int(rows[1]["params"]) - int(rows[0]["params"]) == (400 - 8) * (96 + 1)
    assert not (tmp_path / "datasets").exists()
    code, _, errors = tool("--cfg", "r2plus1d_ucf101.yaml")
    assert code == 0
    assert "400" in errors
    assert "data.root" in errors


def test_of_named_networks_it_counts_and_measures_what_is_asked(tool, tmp_path):
    names = ["r3d_18 width=8", "r2d_18 width=8 layers=[1,1]"]
    clip = ["--frames", "4", "--size", "32", "--views", "30", "--classes", "7"]
    code, _, _ = tool("--model", *names, *clip, "--measure", "fp32", "bf16 channels-last", "--batch", "2")
    assert code == 0
    rows = table(tmp_path / "results" / "complexity" / "r3d_18-width-8-r2d_18-width-8-layers-1-1-" / "table.csv")
    assert [row["model"] for row in rows] == names
    for row in rows:
        assert (row["frames"], row["size"], row["views"], row["classes"], row["batch"]) == ("4", "32", "30", "7", "2")
        for mode in ("fp32", "bf16 channels-last"):
            assert float(row[f"{mode} clips_s"]) == pytest.approx(2000 / float(row[f"{mode} ms"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "r3d_19"], ["r3d_19", "did you mean r3d_18"]),
        (["--model", "r3d_18 groups=3"], ["groups"]),
        (["--model", "r3d_18 layers=[1"], ["layers=[1", "NAME key=value"]),
        (["--model", "pytorchvideo/slowfast_r50", "--frames", "6"], ["got 6"]),
        (["--model", "r3d_18", "--measure", "int8"], ["'int8'", "bf16 channels-last"]),
        (["--cfg", "none.yaml"], ["none.yaml"]),
        (["--model", ""], ["no name", "r3d_50 groups=32"]),
        (["--model", "r2d_18 frames=4", "--frames", "8"], ["made for 4 frames", "clip has 8"]),
        (["--cfg", "r3d_ucf101.yaml", "test.clips=all"], ["give --views"]),
        *([] if torch.cuda.is_available() else [(["--model", "r3d_18", "--device", "cuda"], ["no CUDA device"])]),
    ],
)
def test_wrong_input_exits_with_2_and_says_why(tool, arguments, words):
    code, _, errors = tool(*arguments)
    assert code == 2
    assert [word for word in words if word not in errors] == []
    assert "Traceback" not in errors


@pytest.fixture
def written(tmp_path):
    def write(**model):
        text = {"data": {"name": "t", "format": "csv", "root": "."}, "model": model, "train": {"epochs": 1}}
        text["data"] |= {"clip": {"frames": 8}, "transform": {"crop": 32, "short_side": 32}}
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(text))
        return "--cfg", "own.yaml"

    return write


def test_a_configuration_may_have_frames_epsilons_and_changes(tool, tmp_path, written):
    (row,) = read(tool, tmp_path, *written(name="r2d_18", frames=8, width=8))
    assert (row["model"], row["frames"]) == ("r2d_18 width=8 frames=8", "8")
    (row,) = read(tool, tmp_path, *written(name="r3d_18", width=8, norm_eps=1e-5), "model.pool=max", "train.epochs=2")
    assert row["model"] == 'r3d_18 width=8 norm_eps=1e-05 pool="max"'
    assert tool("--model", "r3d_18", "--frames", "3", "--", "model.pool=max")[0] == 2


def read(tool, folder, *arguments):
    code, _, errors = tool(*arguments)
    assert code == 0, errors
    return table(folder / "results" / "complexity" / "own" / "table.csv")


def test_many_networks_have_a_folder_of_their_own_however_long_their_labels_are(tool, tmp_path):
    long = "r3d_18 layers=[1,1,1] width=16 stem=small block=bottleneck conv=3d shortcut=B norm=batch"
    lists = [[long, "r3d_18", "r2d_18 frames=8", "mc3_18", "mc4_18"], [long, "r3d_18", "r2d_18 frames=8", "mc3_18"]]
    for networks in lists:
        tool("--model", *networks, "--frames", "8", "--size", "16")
    assert len(list((tmp_path / "results" / "complexity").iterdir())) == 2


def test_a_label_is_what_it_was_made_from():
    changes = {"norm_eps": 1e-05, "conv": ["3d", "2d"], "pool": "max", "bias": True, "dropout": 0.1, "frames": 4}
    assert complexity.parse_model(complexity.format_name("r3d_18", changes)) == ("r3d_18", changes)
    assert complexity.parse_model("r3d_18 norm_eps=1e-3") == ("r3d_18", {"norm_eps": 1e-3})


@pytest.mark.parametrize("change", ["width=" + "[" * 5000, "width=[1", "width", "width=", "width=2024-13-01"])
def test_a_change_that_is_no_value_is_refused(change):
    with pytest.raises(UserError, match=r"override .*width"):
        complexity.parse_model(f"r3d_18 {change}")


def test_a_network_made_for_some_frames_is_counted_at_them():
    assert complexity.compute_row("r2d_18 width=8 frames=4", size=64)["frames"] == 4


def test_a_clip_too_small_to_train_on_has_no_training_memory():
    row = complexity.compute_row("r3d_50 width=8 layers=[1,1,1,1]", frames=8, size=32)
    assert row["training_bytes"] is None
    assert row["inference_bytes"] > 0
    assert complexity.format_table([row]).rstrip().endswith("| - |")
    assert "| classes |" in complexity.format_table([row])


def test_networks_that_refuse_a_clip_are_left_out_with_their_reason(capsys):
    names = ["r3d_18", "pytorchvideo/slowfast_r50"]
    rows = complexity.compute_rows(names, frames=6, size=32)
    assert [row["model"] for row in rows] == ["r3d_18"]
    assert "left out pytorchvideo/slowfast_r50: slowfast_r50 takes clips of 4, 8" in capsys.readouterr().out


def test_every_network_has_a_place_in_the_page():
    """The mixed bottlenecks, which nobody published, are the ones left out."""
    named = {name for _, names, _ in complexity.SECTIONS for name in names}
    missing = set(videores.list_models()) - named
    assert all(re.fullmatch(r"r?mc\d_(50|101|152)", name) for name in missing), missing


ROWS = re.compile(r"^\| (\S+) \| (\d+)x(\d+)x\d+ \| ([\d,]+) \| ([\d.e-]+) \|", re.MULTILINE)


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18", "mc3_18", "f_r2d_50", "ir_csn_50", "cifar2d_20"])
def test_the_committed_page_is_what_the_tool_counts(name):
    page = (ROOT / "docs" / "reference" / "complexity.md").read_text()
    found = [match.groups() for match in ROWS.finditer(page) if match[1] == name]
    assert found
    for _, frames, size, parameters, gmacs in found:
        classes = {"f": 1000, "c": 10}.get(name[0], 400)
        row = complexity.compute_row(name, classes, int(frames), int(size))
        assert f"{row['params']:,}" == parameters
        assert complexity.format_number(row["gmacs"]) == gmacs


def test_every_network_has_its_name_in_the_plot(tmp_path, monkeypatch):
    saved = record_figures(monkeypatch)
    models = videores.list_models()
    costs = [{"gmacs": 1.2 ** (i % 30), "params": 1e6 * (1 + i % 7) * 1.1 ** (i % 4)} for i in range(len(models))]
    rows = [{"model": model, **cost, "batch": 2} for model, cost in zip(models, costs, strict=True)]
    rows = [{**row, "measured": {"fp32": {"ms": 7.0 + i % 11}}} for i, row in enumerate(rows)]
    complexity._plot_costs(tmp_path / "pareto.png", rows)
    assert_legible(saved[0])
    written = [text for text, _ in text_boxes(saved[0])]
    assert all(written.count(model) == 2 for model in models)
