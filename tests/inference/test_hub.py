"""Sharing: a folder or repository gives the run's network back, with a card whose numbers are those of the run."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from helpers.commands import CLASSES, ROOT, environment, forked, succeeded
from helpers.hub import start_hub
from huggingface_hub import ModelCard

import videores
from videores.config.parse import load_config
from videores.errors import UserError
from videores.inference.hub import HubPredictor
from videores.inference.record import collect_record
from videores.inference.testing import prepare_file_test
from videores.models.weights import names, safetensors
from videores.models.weights.loading import load_weights
from videores.models.weights.names import list_models

CLIPS = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
READ = """
import sys, torch, videores
from videores.inference.hub import HubPredictor
clips = torch.load("clips.pt")
for one in (videores.load(sys.argv[1]), HubPredictor.from_pretrained(sys.argv[1].removeprefix("hub:"))):
    with torch.no_grad():
        found = {"logits": one.model(clips), "json": one.preprocessing.to_json(), "classes": list(one.classes)}
    torch.save({**found, "training": one.model.training}, type(one).__name__ + ".pt")
"""


@pytest.fixture(scope="module")
def run(trained):
    return trained[0] / "runs" / "tiny"


@pytest.fixture(scope="module")
def shared(run, tmp_path_factory):
    """The folder that was shared of a run."""
    folder = tmp_path_factory.mktemp("shared") / "net"
    HubPredictor.from_run(run, license="cc-by-4.0").save_pretrained(folder)
    return folder


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A running hub that commands of this test talk to."""
    server = start_hub()
    for key, value in {"HF_ENDPOINT": server.address, "HF_TOKEN": "hf_test", "HF_HOME": tmp_path / "hf"}.items():
        monkeypatch.setenv(key, str(value))
    yield server
    server.shutdown()
    server.server_close()


def read_elsewhere(source, folder, is_fresh=True):
    """What a process in another folder, a fresh one or a forked one, reads by both entrances."""
    torch.save(CLIPS, folder / "clips.pt")
    (folder / "read.py").write_text(READ)
    if is_fresh:
        subprocess.run([sys.executable, "read.py", source], cwd=folder, env=environment(), check=True)
    else:
        succeeded(forked([(folder / "read.py", source)], folder)[0])
    return [torch.load(folder / f"{name}.pt") for name in ("Predictor", "HubPredictor")]


def check_same(found, run):
    ours = videores.load(run)
    with torch.no_grad():
        logits = ours.model(CLIPS)
    for theirs in found:
        assert torch.equal(theirs["logits"], logits)
        assert not theirs["training"]
        assert theirs["json"] == ours.preprocessing.to_json()
        assert theirs["classes"] == list(ours.classes)


def test_a_folder_is_read_in_a_fresh_process_elsewhere(shared, run, tmp_path):
    check_same(read_elsewhere(shared, tmp_path), run)
    assert {path.name for path in shared.iterdir()} == {"README.md", "config.json", names.HUB_FILE}
    assert json.loads((shared / "config.json").read_text()) == {"library_name": "videores", "weights": names.HUB_FILE}


def test_sharing_what_was_read_changes_nothing(shared, tmp_path):
    HubPredictor.from_pretrained(shared).save_pretrained(tmp_path / "again")
    for path in shared.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_card_has_each_number_with_its_protocol(shared, run):
    metrics = [json.loads(path.read_text()) for path in run.glob("test/*/metrics.json")]
    text, card = (shared / "README.md").read_text(), ModelCard.load(shared / "README.md")
    for m in metrics:
        (row,) = re.findall(rf"^\| `{re.escape(m['protocol'])}` .*$", text, re.MULTILINE)
        low, high = m["ci95_video_top1"]
        best = m["floors"][m["floors"]["best"]]
        for part in (f"{m['clip_top1']:.1f}", f"{m['video_top1']:.1f}", f"{low:.1f} to {high:.1f}", f"{best:.1f} ("):
            assert part in row
        assert "not beaten" in row  # seven videos prove nothing
    assert {(r.dataset_name, r.metric_value) for r in card.data.eval_results} == {
        ("tiny", round(m["video_top1"], 2)) for m in metrics
    }
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "videores")
    record = json.loads((run / "env.json").read_text())
    assert all(part in text for part in (record["git"]["commit"][:8], record["code"], record["command"]))
    config = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[-1])
    assert config["model"]["width"] == 8


def test_a_card_without_a_license_says_so(run):
    text = HubPredictor.from_run(run).build_card()
    assert "No license was stated" in text
    assert "\nlicense:" not in text


def test_a_repository_is_pushed_and_read_back(server, run, tmp_path):
    """By the commands, against a server with the hub's answers to these requests; the real hub is not asked."""
    folder = tmp_path / "shared"
    (pushed,) = forked(
        [("export.py", "--run", run, "--format", "hub", "--out", folder, "--push", "user/net")], tmp_path
    )
    assert f"{server.address}/user/net/commit/" in succeeded(pushed).stdout
    assert server.files["user/net"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    server.files["user/other"] = {"pytorch_model.bin": b"a pickle", "config.json": b"{}"}
    check_same(read_elsewhere("hub:user/net", tmp_path, is_fresh=False), run)
    video = run.parents[1] / "data/test/00.mp4"
    sources = ("hub:user/net", "hub:user/other", "hub:user/none", "hub:no name")
    found = forked([("predict.py", source, video) for source in sources], tmp_path)
    assert [process.returncode for process in found] == [0, 2, 2, 2]
    assert "model.safetensors" in found[1].stderr
    assert all(source in process.stderr for source, process in zip(sources[1:], found[1:], strict=True))


def test_a_push_that_is_refused_keeps_the_folder(server, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    command = ("export.py", "--run", run, "--format", "hub", "--out", "net", "--push", "user/net")
    (process,) = forked([command], tmp_path)
    assert process.returncode == 2
    assert "user/net" in process.stderr
    assert "Traceback" not in process.stderr
    assert (tmp_path / "net" / names.HUB_FILE).is_file()
    assert server.files == {}


def test_the_folder_is_a_source_everywhere(shared, run, tmp_path):
    cases = [
        ("predict.py", shared, run.parents[1] / "data/test/00.mp4"),
        ("evaluate.py", "--run", shared, "--out", tmp_path / "results", f"data.root={run.parents[1] / 'data'}"),
        ("features.py", shared, "--no-picture", "--out", tmp_path / "features", f"data.root={run.parents[1] / 'data'}"),
        ("export.py", "--weights", shared, "--format", "pt2", "--out", tmp_path / "net.pt2"),
        ("features.py", shared, "--no-picture", "--out", tmp_path / "features", f"data.root={run.parents[1] / 'data'}"),
    ]
    for process in forked(cases, tmp_path):
        succeeded(process)
    assert {path.name for path in tmp_path.glob("features/*.npz")} == {"features.npz", "features_train.npz"}
    (theirs,), (ours,) = tmp_path.glob("results/test/*/metrics.json"), run.glob("test/*/metrics.json")
    same = ("protocol", "clip_top1", "video_top1", "ci95_video_top1", "nll", "floors")
    theirs, ours = json.loads(theirs.read_text()), json.loads(ours.read_text())
    assert {key: theirs[key] for key in same} == {key: ours[key] for key in same}
    assert json.loads((tmp_path / "features/features.json").read_text())["protocol"] == ours["protocol"]
    network = videores.load(tmp_path / "net.pt2").model
    assert network.about.protocol == ours["protocol"]
    cfg = load_config(run / "config.yaml")
    from videores.models import create_model

    assert load_weights(create_model(cfg.model.name, 6, **cfg.model.overrides()), shared).new == []


def test_the_lines_of_the_page_run(run, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/guide/sharing.md").read_text()
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    video = "datasets/motion8/videos/test/0000_left.mp4"
    monkeypatch.chdir(tmp_path)
    exec(code.replace("runs/r2plus1d_motion", str(run)).replace(video, f"{run.parents[1]}/data/test/00.mp4"), {})
    assert capsys.readouterr().out.split()[-1] in CLASSES


# Bad input


def test_a_run_that_has_not_ended_has_no_card(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    record = json.loads((folder / "env.json").read_text())
    (folder / "env.json").write_text(json.dumps({k: v for k, v in record.items() if k not in ("exit_status", "end")}))
    with pytest.raises(UserError, match="has not ended"):
        HubPredictor.from_run(folder)
    (folder / "env.json").unlink()
    with pytest.raises(UserError, match=r"env\.json"):
        HubPredictor.from_run(folder)


def test_a_run_without_a_test_has_no_card(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(folder / "test")
    with pytest.raises(UserError, match=r"evaluate\.py --run"):
        collect_record(folder)
    with pytest.raises(UserError, match=r"config\.yaml"):
        collect_record(tmp_path)


def test_results_of_former_weights_are_left_out(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    (own,) = folder.glob("test/*/")
    former = shutil.copytree(own, own.with_name("8x1@32_32_9x1_softmax-mean_tiny-test"))
    metrics = json.loads((former / "metrics.json").read_text())
    metrics["checkpoint"]["step"] += 1
    (former / "metrics.json").write_text(json.dumps(metrics))
    assert len(collect_record(folder)["results"]) == 1
    assert former.name in capsys.readouterr().err


def test_a_folder_of_other_things_is_not_written_to(run, tmp_path):
    one = HubPredictor.from_run(run)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        one.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(UserError, match="runs/tiny"):
        one.save_pretrained(run)


def test_weights_that_were_changed_do_not_get_the_card_of_others(shared, tmp_path):
    one = HubPredictor.from_pretrained(shared)
    next(one.model.parameters()).data.mul_(2)
    with pytest.raises(UserError, match="changed"):
        one.save_pretrained(tmp_path / "changed")


def write_changed(shared, folder, **changes):
    """The shared file with other metadata; None takes an entry away."""
    state, about = safetensors.read_safetensors(shared / names.HUB_FILE)
    about = {key: value for key, value in {**about, **changes}.items() if value is not None}
    safetensors.write_safetensors(folder / names.HUB_FILE, state, about)
    return folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": None}, "config"),
        ({"record": None}, "record"),
        ({"record": {"name": "x"}}, "results|network"),
        ({"classes": ["a", "b"]}, r"fc\.weight"),
    ],
)
def test_a_file_with_other_metadata_is_refused(shared, tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        HubPredictor.from_pretrained(write_changed(shared, tmp_path, **changes))


def test_a_header_of_another_network_is_refused(shared, tmp_path):
    _, about = safetensors.read_safetensors(shared / names.HUB_FILE)
    model = {**about["config"]["model"], "name": "r2plus1d_18"}
    with pytest.raises(UserError, match="r2plus1d_18"):
        videores.load(write_changed(shared, tmp_path, model=model))


def test_folders_without_our_metadata_and_pickles_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / names.HUB_FILE)
    with pytest.raises(UserError, match=names.HUB_FILE):
        videores.load(tmp_path)
    (tmp_path / names.HUB_FILE).unlink()
    torch.save({"w": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        videores.load(tmp_path)
    with pytest.raises(UserError, match=names.HUB_FILE):
        HubPredictor.from_pretrained(tmp_path)


def test_facts_in_config_json_are_not_taken(shared, tmp_path):
    folder = shutil.copytree(shared, tmp_path / "net")
    (folder / "config.json").write_text(json.dumps({"network": "r3d_34", "about": {}, "device": "cuda"}))
    found, ours = HubPredictor.from_pretrained(folder), HubPredictor.from_pretrained(shared)
    assert found.about == ours.about
    with torch.no_grad():
        assert torch.equal(found.model(CLIPS), ours.model(CLIPS))
    with pytest.raises(UserError, match="weights_only"):
        HubPredictor.from_pretrained(folder, weights_only=False)


def test_a_shared_folder_is_named_where_a_run_is_asked_for(shared, tmp_path):
    (process,) = forked([("export.py", "--run", shared, "--format", "onnx", "--out", tmp_path / "net.onnx")], tmp_path)
    assert process.returncode == 2
    assert "config.yaml" in process.stderr


def test_results_of_a_shared_folder_lie_beside_it(shared, run):
    tested = prepare_file_test(f"{shared}/", (f"data.root={run.parents[1] / 'data'}",))
    assert tested.folder == shared.with_name("net.results")


@pytest.mark.parametrize(
    "options", [("--preprocess",), ("--checkpoint", "x.ckpt"), ("--format", "onnx", "--license", "mit")]
)
def test_options_that_do_not_go_together_are_refused(run, tmp_path, options):
    (process,) = forked([("export.py", "--run", run, "--format", "hub", *options)], tmp_path)
    assert process.returncode == 2
    assert next(word for word in options[::-1] if word.startswith("--")) in process.stderr


# Names


def test_networks_and_weights_are_listed_by_pattern():
    assert {"r2plus1d_18", "r2plus1d_34"} <= set(list_models("r2plus1d*"))
    assert "torchvision/r2plus1d_18/KINETICS400_V1" in list_models("r2plus1d*", pretrained=True)
    assert "torchvision/resnet18/IMAGENET1K_V1" in list_models("f_r2d_18", pretrained=True)
    assert list_models("no such*", pretrained=True) == list_models("no such*") == []
    assert videores.list_models is list_models


def test_a_name_of_nothing_names_what_there_is():
    with pytest.raises(UserError, match="videores/none"):
        videores.load("videores/none")
