"""tools/probe.py on a run of an embedded set: its parts, and the report that shows them."""

import json
import re
import shutil

import pytest
import yaml
from helpers.commands import forked, succeeded

from videores.data.synthetic import writing

CONFIG = {
    "data": {
        "name": "motion8",
        "format": "csv",
        "root": "motion",
        "val": "none",
        "clip": {"frames": 8},
        "transform": {"short_side": 32, "crop": 28, "flip": 0},
        "cache": "ram",
        "batch_size": 8,
        "workers": 0,
    },
    "model": {"name": "f_r2d_18", "layers": [1, 1], "width": 4, "stem": "cifar"},
    "train": {"epochs": 1, "lr": 0.02},
    "test": {"clips": 1},
    "trainer": {"accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """The process of a probe, and its run folder."""
    place = tmp_path_factory.mktemp("probe")
    writing.prepare_dataset(place / "motion", videos={"train": 16, "test": 16}, progress=False)
    (place / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    (trained,) = forked([("train.py", "--cfg", "tiny.yaml")], place)
    succeeded(trained)
    command = ("probe.py", "--run", "runs/tiny", "--severities", "5", "--videos", "8")
    (process,) = forked([command], place)
    return succeeded(process), place / "runs" / "tiny"


def read_parts(run):
    (folder,) = run.glob("probe/*")
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_every_part_has_its_numbers_and_its_picture(probed):
    process, run = probed
    parts = read_parts(run)
    assert set(parts) == {"orders", "corruptions", "responses", "maps"}
    assert {path.stem for path in run.glob("probe/*/*.png")} == set(parts)
    assert {one["protocol"] for one in parts.values()} == {"8x1@28/32 1x1 softmax-mean motion8-test"}
    assert "wrote   runs/tiny/probe/" in process.stdout


def test_a_network_without_time_loses_nothing_by_the_order(probed):
    orders = {row["order"]: row for row in read_parts(probed[1])["orders"]["orders"]}
    assert set(orders) == {"shuffled", "reversed", "frozen", "static", "subsampled"}
    for order in ("shuffled", "reversed"):
        assert orders[order]["difference"] == 0
        assert orders[order]["largest_change"] < 1e-5
    assert orders["static"]["largest_change"] > 1e-5  # it shows other frames


def test_probes_are_ordinary_tests_and_their_numbers_follow_from_them(probed):
    run, parts = probed[1], read_parts(probed[1])
    saved = [json.loads(path.read_text()) for path in run.glob("test/*/metrics.json")]
    by_protocol = {one["protocol"]: one["video_top1"] for one in saved}
    assert len(by_protocol) == 1 + 5 + 5
    rows = [*parts["orders"]["orders"], *parts["corruptions"]["corruptions"]]
    assert {row["protocol"]: row["video_top1"] for row in rows}.items() <= by_protocol.items()
    errors = [100 - row["video_top1"] for row in parts["corruptions"]["corruptions"]]
    assert parts["corruptions"]["mean_error"] == pytest.approx(sum(errors) / len(errors))


def test_the_share_of_partners_is_the_accuracy_where_the_list_has_all_reversals(probed):
    run, orders = probed[1], read_parts(probed[1])["orders"]
    (normal,) = run.glob("test/*motion8-test/metrics.json")
    assert orders["partner"]["share"] == json.loads(normal.read_text())["video_top1"]


def test_maps_are_checked_with_the_place_of_the_sprite(probed):
    methods = read_parts(probed[1])["maps"]["methods"]
    assert set(methods) == {"gradcam", "layercam"}
    for one in methods.values():
        assert one["videos"] == 8
        assert 0 < one["pointing"]["uniform"] < 50
        assert [step["part"] for step in one["cascade"]["steps"]] == ["fc", "layer2", "layer1", "stem"]


def test_the_report_shows_probes_and_names_a_damaged_one(probed):
    run = probed[1]
    damaged = run / "probe" / "damaged" / "maps.json"
    damaged.parent.mkdir()
    damaged.write_text('{"protocol": "x"}')
    (process,) = forked([("report.py", "--run", "runs/tiny")], run.parents[1])
    shutil.rmtree(damaged.parent)
    succeeded(process)
    page = (run / "report.html").read_text()
    assert "<h2>Probes</h2>" in page
    assert "mean corruption error" in page
    assert "damaged/maps.json cannot be shown" in page


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--run", "runs"), "config.yaml"),
        (("--run", "runs/tiny", "--only", "order"), "--only must be of orders"),
        (("--run", "runs/tiny", "--methods", "gradcan"), "--methods"),
        (("--run", "runs/tiny", "--severities", "0"), "--severities"),
    ],
)
def test_wrong_input_is_one_message(probed, arguments, named):
    (process,) = forked([("probe.py", *arguments)], probed[1].parents[1])
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert re.search(named, process.stderr)
