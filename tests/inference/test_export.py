"""Exported files: they answer what the network answers, say what they are, and hold no code."""

import json
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import ROOT, environment, forked, read_result, succeeded
from helpers.weights import randomise

import videores
from videores.compute.scoring import set_score_layout
from videores.data import transforms
from videores.errors import UserError
from videores.inference.export_check import compare_answers, draw_samples
from videores.inference.export_program import write_program
from videores.inference.exported import ExportDescription, load_exported
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork
from videores.models import create_model
from videores.runtime.environment import read_git_state

CLASSES = ["a", "b", "c"]
PREPROCESSING = Preprocessing(clip={"frames": 4}, transform={"short_side": 24, "crop": 16})
SMALL = dict(layers=[1, 1], width=8)
NETWORKS = {
    "r2plus1d_18": {},
    "f_r2d_18": {"shift": 4, "pool": "attention"},
    "ir_csn_50": {"pool": "lstm"},
}


def make_network(name="r3d_18", **options):
    model = randomise(create_model(name, 3, **SMALL, **options)).eval()
    set_score_layout(model, "cpu", "fp32")
    return TrainedNetwork("random", model, tuple(CLASSES), PREPROCESSING)


def write(network, path, **changes):
    about = ExportDescription(CLASSES, PREPROCESSING.model_dump(mode="json"), None, None, "clips", "logits", False, "x")
    about = ExportDescription(**{**vars(about), **changes})
    write_program(network.model, about, path)
    return path


@pytest.fixture(scope="module")
def pt2(tmp_path_factory):
    """(network, its file)"""
    network = make_network()
    return network, write(network, tmp_path_factory.mktemp("pt2") / "network.pt2")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_answers_bit_for_bit_what_the_network_does(name, tmp_path):
    network = make_network(name, **NETWORKS[name])
    exported = load_exported(write(network, tmp_path / "n.pt2"))
    differences = compare_answers(tmp_path, exported, network, draw_samples(PREPROCESSING))
    assert differences == {1: 0.0, 2: 0.0, 5: 0.0}


@pytest.mark.parametrize("size", [(24, 24), (31, 57), (57, 31), (20, 16)])
def test_preprocessing_within_a_program_is_that_of_the_test(size, frames_file):
    network, exported = frames_file
    frames_BTHWC = torch.as_tensor(np.random.default_rng(0).integers(0, 256, (3, 4, *size, 3), dtype=np.uint8))
    scaled = [np.stack([PREPROCESSING.scale(frame) for frame in clip.numpy()]) for clip in frames_BTHWC]
    cut = torch.cat([transforms.crop_views(clip, np.arange(4)[None], 16, 1) for clip in scaled])
    with torch.no_grad():
        expected = network.model(PREPROCESSING.normalize(cut)).softmax(1)
        answer = exported(frames_BTHWC)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def frames_file(tmp_path_factory):
    network = make_network("f_r2d_18")
    path = tmp_path_factory.mktemp("frames") / "network.pt2"
    return network, load_exported(write(network, path, input="frames", output="probabilities"))


def test_a_file_says_what_it_is(pt2):
    exported = load_exported(pt2[1])
    assert exported.classes == tuple(CLASSES)
    assert exported.preprocessing == PREPROCESSING
    assert (exported.about.input, exported.about.output, exported.about.folded) == ("clips", "logits", False)
    assert list(exported.parameters()) == []


@pytest.mark.parametrize(
    "batch",
    [
        *(torch.zeros(2, 3, 5, 16, 16), torch.zeros(2, 3, 4, 18, 16), torch.zeros(0, 3, 4, 16, 16)),
        *(torch.zeros(2, 3, 4, 16, 16).double(), torch.zeros(2, 4, 16, 16, 3, dtype=torch.uint8)),
    ],
    ids=lambda batch: str(list(batch.shape)),
)
def test_other_input_than_its_own_is_refused(pt2, batch):
    with pytest.raises(UserError, match="float32 B x 3 x 4 x 16 x 16"):
        load_exported(pt2[1])(batch)


def test_a_file_names_no_path_of_this_machine(pt2):
    with zipfile.ZipFile(pt2[1]) as archive:
        assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())


# Damaged and foreign files


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 cut"])
def test_a_file_that_is_none_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"n{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"n{suffix}"):
        load_exported(path)


def test_a_cut_file_and_a_changed_byte_are_refused(pt2, tmp_path):
    content = pt2[1].read_bytes()
    at = content.index(b"weights/weight_0") + 200
    for damaged in (content[:-500], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]):
        (tmp_path / "n.pt2").write_bytes(damaged)
        with pytest.raises(UserError, match=r"n\.pt2"):
            load_exported(tmp_path / "n.pt2")


def test_files_that_are_not_there_or_of_another_kind_are_refused(tmp_path):
    for name in ("none.pt2", "none.onnx", "model.tflite"):
        with pytest.raises(UserError, match=name):
            load_exported(tmp_path / name)


def test_files_of_others_are_refused(tmp_path):
    from onnx import TensorProto, helper, save

    linear = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),))
    linear.example_inputs = None
    torch.export.save(linear, tmp_path / "other.pt2")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "other.onnx")
    for name in ("other.pt2", "other.onnx"):
        with pytest.raises(UserError, match=rf"{name} was not written by tools/export\.py"):
            load_exported(tmp_path / name)


class Payload:
    """A pickle that writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def attack_sizes(program, target):
    text = json.dumps(program)
    code = f"__import__('pathlib').Path('{target}').touch() or 2"
    return json.loads(re.sub(r'"expr_str": "[^"]*"', f'"expr_str": "{code}"', text, count=1))


def attack_guards(program, target):
    program["guards_code"] = [f"__import__('pathlib').Path('{target}').touch() or True"]
    return program


def attack_operator(program, target):
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"
    return program


def attack_file(program, target):
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"
    return program


def attack_tree(program, target):
    call = program["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = '[1, {"type": "collections.defaultdict", "context": {}, "children_spec": []}]'
    return program


@pytest.mark.parametrize("attack", [attack_sizes, attack_guards, attack_operator, attack_file, attack_tree])
def test_a_program_that_would_run_code_is_refused(pt2, tmp_path, attack):
    target = tmp_path / "touched"
    change = lambda name, text: json.dumps(attack(json.loads(text), target)) if name.endswith("model.json") else text
    rewrite(pt2[1], tmp_path / "n.pt2", change)
    with pytest.raises(UserError, match=r"n\.pt2 must hold a network"):
        load_exported(tmp_path / "n.pt2")
    assert not target.exists()


def rewrite(source, path, change, more=()):
    """Copies an archive with changed members, and more of them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in more:
            new.writestr(name, content)


def mark_as_pickle(name, text):
    if not name.endswith("model_weights_config.json"):
        return text
    config = json.loads(text)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config)


def test_pickles_in_a_program_are_refused(pt2, tmp_path):
    payload = pickle.dumps(Payload(tmp_path / "touched"))
    keep = lambda name, text: text
    root = zipfile.ZipFile(pt2[1]).namelist()[0].partition("/")[0]
    rewrite(pt2[1], tmp_path / "weight.pt2", mark_as_pickle)
    rewrite(pt2[1], tmp_path / "inputs.pt2", lambda name, text: payload if "sample_inputs" in name else text)
    rewrite(pt2[1], tmp_path / "object.pt2", keep, [(f"{root}/data/constants/opaque_obj_0", payload)])
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewrite(pt2[1], tmp_path / "twice.pt2", keep, [(f"{root}/models/model.json", b"{}")])
    for name in ("weight", "inputs", "object", "twice"):
        with pytest.raises(UserError, match=rf"{name}\.pt2 must hold a network"):
            load_exported(tmp_path / f"{name}.pt2")
    assert not (tmp_path / "touched").exists()


# The tools


@pytest.fixture(scope="module")
def exports(trained, tmp_path_factory):
    """(the folder of a run's exports and their tests, the run, the processes by name)"""
    place, folder = trained[0], tmp_path_factory.mktemp("exports")
    run = place / "runs" / "tiny"
    export = lambda name, *more: (
        "export.py",
        "--run",
        run,
        "--format",
        name.split(".")[1],
        "--out",
        folder / name,
        *more,
    )
    test = lambda name, *more: ("evaluate.py", "--run", folder / name, *more)
    cases = {
        "export pt2": export("network.pt2", "--format", "pt2"),
        "export onnx": export("network.onnx", "--format", "onnx"),
        "export frames": export("frames.onnx", "--format", "onnx", "--preprocess"),
        "export weights": export("weights.safetensors"),
        "pt2": test("network.pt2"),
        "onnx": test("network.onnx"),
        "weights": test("weights.safetensors"),
        "another batch": test("network.pt2", "data.batch_size=3", "--out", folder / "another"),
        "frames": test("frames.onnx"),
        "another normalization": test("network.pt2", "data.transform.mean=[0,0,0]"),
        "half": test("network.onnx", "trainer.score_precision=bf16"),
        "suffix": export("x.pt2", "--format", "onnx"),
        "option": ("export.py", "--run", run, "--preprocess"),
    }
    return folder, run, dict(zip(cases, forked(list(cases.values()), place), strict=True))


def logits_of(folder):
    (test,) = (folder / "test").iterdir()
    return read_result(test)


def test_the_test_of_a_run_through_its_files_gives_its_numbers(exports):
    folder, run, processes = exports
    for name in ("export pt2", "export onnx", "export frames", "export weights", "pt2", "onnx", "weights"):
        succeeded(processes[name])
    result, arrays = logits_of(run)
    for name in ("network.pt2", "weights.safetensors"):
        found, through = logits_of(folder / f"{name}.results")
        np.testing.assert_array_equal(through["logits"], arrays["logits"])
        same = ("protocol", "clip_top1", "video_top1", "confusion", "videos", "list")
        assert {key: found[key] for key in same} == {key: result[key] for key in same}
        assert found["checkpoint"] == {**result["checkpoint"], "file": name}
    _, another = logits_of(folder / "another")
    np.testing.assert_allclose(another["logits"], arrays["logits"], rtol=0, atol=1e-5)
    _, onnx = logits_of(folder / "network.onnx.results")
    np.testing.assert_allclose(onnx["logits"], arrays["logits"], rtol=0, atol=1e-4)


def test_the_predictor_gives_the_same_scores_through_a_file(exports, trained):
    folder, run, _ = exports
    _, arrays = logits_of(run)
    for name, tolerance in (("network.pt2", 1e-5), ("network.onnx", 1e-4)):
        video = trained[0] / "data" / str(arrays["video"][0])
        answer = videores.load(folder / name).predict(video)
        np.testing.assert_allclose(answer.logits_KN, arrays["logits"][0], rtol=0, atol=tolerance)


def test_the_tool_prints_what_it_compared(exports):
    text = exports[2]["export pt2"].stdout
    assert "compared on clips of test/00.mp4, test/01.mp4, test/02.mp4" in text
    assert text.count("logits differ by 0.0e+00") == 3


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("frames", "frames.onnx"),
        ("another normalization", "data.transform.mean"),
        ("half", "trainer.score_precision"),
        ("suffix", "--out"),
        ("option", "--preprocess"),
    ],
)
def test_what_a_file_cannot_do_is_refused(exports, name, key):
    process = exports[2][name]
    assert process.returncode == 2, process.stderr
    assert key in process.stderr
    assert "Traceback" not in process.stderr


WITHOUT_VIDEORES = """
import json, sys
sys.modules["videores"] = None  # an import fails
import numpy as np
folder, place = sys.argv[1:]
clips = np.random.default_rng(0).standard_normal((3, 3, 8, 32, 32)).astype("float32")
frames = np.random.default_rng(0).integers(0, 256, (2, 8, 40, 50, 3), dtype="uint8")
import onnxruntime
session = onnxruntime.InferenceSession(f"{folder}/network.onnx")
(logits,) = session.run(None, {"clips": clips})
metadata = session.get_modelmeta().custom_metadata_map
(probabilities,) = onnxruntime.InferenceSession(f"{folder}/frames.onnx").run(None, {"frames": frames})
import torch
program = torch.export.load(f"{folder}/network.pt2", extra_files=(extra := {"classes": ""}))
with torch.no_grad():
    same = program.module()(torch.from_numpy(clips)).numpy()
assert np.abs(same - logits).max() < 1e-4
assert np.allclose(probabilities.sum(1), 1)
assert extra["classes"] == metadata["classes"]
print(json.dumps([json.loads(metadata[key]) for key in ("classes", "preprocessing", "protocol", "commit")]))
"""


def test_files_run_without_videores_and_say_their_classes_preprocessing_protocol_and_commit(exports, tmp_path):
    folder, run, _ = exports
    command = [sys.executable, "-c", WITHOUT_VIDEORES, folder, run]
    process = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    classes, preprocessing, protocol, commit = json.loads(succeeded(process).stdout.splitlines()[-1])
    result, arrays = logits_of(run)
    assert classes == arrays["classes"].tolist()
    assert preprocessing["clip"]["frames"] == 8
    assert preprocessing["transform"]["crop"] == 32
    assert protocol == result["protocol"]
    assert (commit is None) == (read_git_state() is None)
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}( with changes)?", commit)
