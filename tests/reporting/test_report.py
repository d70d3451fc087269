"""The page of a run: it has everything inside, says what is missing, and reads as what the run's files say."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from helpers.commands import forked
from helpers.videos import numbered_video
from PIL import Image

from videores.errors import UnreadableVideo, UserError
from videores.evaluation import protocol as protocol_module
from videores.reporting import page as report
from videores.reporting.contact_sheet import contact_sheet

CLASSES = ("<script>alert(1)</script>", 'dog & "cat"', "$emu$")
VIDEO = "it's <b>/{:02}.mp4"
PROTOCOL = "8x1@32/32 2x3 softmax-mean tiny & <small>-test"
CONFIG = {
    "data": {
        "name": "tiny & <small>",
        "format": "csv",
        "root": "data",
        "clip": {"frames": 8},
        "transform": {"short_side": 32, "crop": 32},
    },
    "model": {"name": "r3d_18"},
    "train": {"epochs": 2},
    "test": {"clips": 2, "crops": 3},
}
HISTORY = [
    {"epoch": 0, "step": 1, "train/loss": 2.0, "train/top1": 10.0, "lr": 0.1},
    {"epoch": 0, "step": 2, "val/loss": 1.9, "val/clip_top1": 20.0, "val/video_top1": 25.0},
]
VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """What a browser would make of the page: its text, its pictures, and that every element is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.pictures, self.words, self.tags, self.outside = [], [], [], [], []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"a script: {name}"
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                (self.pictures if value.startswith("data:image/") else self.outside).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def parse(path):
    """The page, after the checks that every page passes."""
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.outside == []
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "@import" not in html
    assert "url(" not in html
    for picture in page.pictures:
        head, data = picture.split(",")
        assert head in ("data:image/png;base64", "data:image/jpeg;base64")
        Image.open(io.BytesIO(base64.b64decode(data, validate=True))).load()
    return page


def write_test(run, logits_VKN, protocol=PROTOCOL, folder=None, crops=3):
    target = run / "test" / (folder or protocol_module.slugify(PROTOCOL))
    target.mkdir(parents=True)
    videos, views, _ = logits_VKN.shape
    clip, crop = np.divmod(np.arange(views), crops)
    video = np.array([VIDEO.format(i) for i in range(videos)])
    label, group = np.arange(videos) % 3, np.array([""] * videos)
    arrays = dict(video=video, label=label, group=group, classes=np.array(CLASSES), clip=clip, crop=crop)
    np.savez(target / "predictions.npz", logits=logits_VKN, **arrays)
    checkpoint = {"file": "checkpoints/best.ckpt", "epoch": 1, "step": 2}
    (target / "metrics.json").write_text(json.dumps({"protocol": protocol, "checkpoint": checkpoint}))
    return target


def make_logits(right, videos=12, views=6):
    """All views of the first `right` videos are right, the others' wrong, the later the surer."""
    logits = np.zeros((videos, views, 3), dtype=np.float32)
    for v in range(videos):
        logits[v, :, (v + (v >= right)) % 3] = 1 + v / 10
    return logits


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with everything, whose videos are there but for the last but one, and the last is damaged."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "tiny<i>"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    env = {"command": "train.py --cfg <x>", "git": None, "versions": {"torch": "2.99"}, "seed": 7, "exit_status": 0}
    (folder / "env.json").write_text(json.dumps({**env, "starts": [{"step": 0, "time": "now"}], "channels_last": True}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HISTORY))
    write_test(folder, make_logits(right=8))
    for number in range(10):
        numbered_video(tmp_path / "data" / VIDEO.format(number), 12, start=number)
    (tmp_path / "data" / VIDEO.format(11)).write_bytes(b"no video")
    return folder


def page_of(run, *args):
    return parse(report.write_page(run, *args))


def test_page_has_all_its_parts_inside(run):
    page = page_of(run)
    for title in ("Accuracy", "Learning curves", "Classes", "Number of views", "Worst mistakes", "Environment"):
        assert title in page.text
    assert "66.67 % of 12 test videos are right" in page.text
    assert "12 of 12" in page.text
    assert page.text.count(PROTOCOL) >= 4  # every number with its protocol
    kinds = [picture.split(";")[0] for picture in page.pictures]
    assert kinds == ["data:image/png"] * 3 + ["data:image/jpeg"] * 2  # curves, confusion, sweep; two videos are there
    assert "torch 2.99" in page.text
    assert "seed 7" in page.text
    assert "channels last yes" in page.text
    assert "frames: 8" in page.text


def test_page_says_the_gap_of_the_tested_weights_once(run):
    assert "Gap of" not in page_of(run).text  # results of before do not say
    gap = {"protocol": "8x1@32/32 1x1 softmax-mean tiny-heldout", "train_video_top1": 90.0, "val_video_top1": 60.0}
    gap |= {"video_top1": 30.0, "train_videos": 20, "val_videos": 10}
    for folder in (run / "test").iterdir():
        found = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**found, "gap": gap}))
    shutil.copytree(folder, folder.with_name("another"))
    said = f"30.00 points of video top-1: 90.00 on 20 train, 60.00 on 10 val videos ({gap['protocol']})"
    assert page_of(run).text.count(said) == 1


@pytest.mark.parametrize(
    ("size", "others", "marked"),
    [(10.0, {}, False), (50.0, {}, True), (50.0, {"clean": None}, False)],  # clean: on shuffled or still frames
)
def test_page_shows_floors_and_marks_what_does_not_beat_them(run, size, others, marked):
    (folder,) = (run / "test").iterdir()
    found = json.loads((folder / "metrics.json").read_text())
    floors = {"majority": 9.0, "size": size, "thumbnail": 8.0, "training_videos": 30, "best": "size", "above": True}
    (folder / "metrics.json").write_text(json.dumps({**found, "floors": floors, **others}))
    text = page_of(run).text
    assert f"majority class 9.00, size and length {size:.2f}, thumbnail 8.00" in text
    assert ("does not beat its floors" in text) == marked


def test_names_are_text_and_never_tags(run):
    page = page_of(run)
    for name in (*CLASSES, VIDEO.format(8), PROTOCOL, "tiny<i>", "train.py --cfg <x>"):
        assert name in page.text


def test_control_and_direction_characters_are_shown_as_escapes(run):
    (test,) = (run / "test").iterdir()
    with np.load(test / "predictions.npz") as file:
        arrays = dict(file)
    arrays["classes"] = np.array(["\x1b]0;title\x07", "\u202eevil", "打架"])
    arrays["video"][11] = "a\u2066\x9b.mp4"
    np.savez(test / "predictions.npz", **arrays)
    (run / "env.json").write_text(json.dumps({"command": "x\x1b[2J\u061c"}))
    html = report.write_page(run).read_text(encoding="utf-8")
    assert not {*"\x1b\x07\x9b\u202e\u2066\u061c"} & {*html}
    for shown in ("\\x1b]0;title\\x07", "\\u202eevil", "打架", "a\\u2066\\x9b.mp4", "x\\x1b[2J\\u061c"):
        assert shown in html


def test_bars_say_the_accuracy_of_each_class_and_what_it_is_taken_for(run):
    html = report.write_page(run).read_text()
    page = Page(html)
    assert re.findall(r'<i style="width:([\d.]+)%">', html) == ["75.0", "75.0", "50.0"]
    assert f"75.0 % of 4 → {CLASSES[1]}" in page.text
    assert f"50.0 % of 4 → {CLASSES[0]}" in page.text
    assert f"Most often confused: {CLASSES[2]} → {CLASSES[0]} (2); {CLASSES[0]} → {CLASSES[1]} (1)" in page.text


def test_classes_that_the_picture_numbers_have_their_names_below_it(run, monkeypatch):
    assert f"Classes: 1 {CLASSES[0]}" not in page_of(run).text
    monkeypatch.setattr(report.figures, "label_classes", lambda names: list("123"))
    assert f"Classes: 1 {CLASSES[0]}, 2 {CLASSES[1]}, 3 {CLASSES[2]}." in page_of(run).text


def test_mistakes_come_surest_first_and_say_what_is_wrong_with_their_files(run):
    page = page_of(run)
    order = [page.text.index(f"{place}. {VIDEO.format(v)}") for place, v in enumerate((11, 10, 9, 8), 1)]
    assert order == sorted(order)
    assert f"{VIDEO.format(9)}: {CLASSES[0]}, taken for {CLASSES[1]}" in page.text
    assert page.text.count("No frames:") == 2
    assert "there is no such file" in page.text


def test_videos_that_are_not_here_are_said_once_and_may_be_named(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    page = page_of(run)
    assert page.text.count("No frames: there is no folder data") == 1
    assert f"1. {VIDEO.format(11)}" in page.text
    assert len(page_of(run, None, ["data.root=moved"]).pictures) == 5


def test_all_protocols_are_in_the_table_and_the_configurations_own_is_shown(run):
    other = "8x1@32/32 1x1 softmax-mean tiny & <small>-test"
    write_test(run, make_logits(right=2, views=1), other, "0", crops=1)
    page = page_of(run)
    assert "66.67 % of 12 test videos are right" in page.text
    assert other in page.text
    assert "16.67" in page.text


def test_a_run_that_was_not_tested_says_how_to(run):
    (test,) = (run / "test").iterdir()
    test.rename(run / "elsewhere")
    page = page_of(run)
    assert "The run was not tested: python tools/evaluate.py --run" in page.text
    assert len(page.pictures) == 1


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_without_predictions_the_numbers_of_metrics_json_stay(run, content):
    (test,) = (run / "test").iterdir()
    found = {"protocol": PROTOCOL, "video_top1": 12.345, "clip_top1": 9.5, "ci95_video_top1": [1, 2]}
    (test / "metrics.json").write_text(
        json.dumps({**found, "videos": {"expected": 12, "scored": 12, "unreadable": []}})
    )
    (test / "predictions.npz").unlink()
    if content is not None:
        (test / "predictions.npz").write_bytes(content)
    page = page_of(run)
    assert "12.35" in page.text
    assert "predictions" in page.text
    assert len(page.pictures) == 1


def test_unreadable_videos_are_listed(run):
    (test,) = (run / "test").iterdir()
    logits = make_logits(right=8)
    logits[2] = np.nan
    (test / "predictions.npz").unlink(), (test / "metrics.json").unlink(), test.rmdir()
    write_test(run, logits)
    page = page_of(run)
    assert f"videos that do not decode (1): {VIDEO.format(2)}" in page.text
    assert "11 of 12" in page.text


@pytest.mark.parametrize("name", ["metrics.jsonl", "env.json"])
def test_a_missing_file_is_said_on_the_page(run, name):
    (run / name).unlink()
    assert name in page_of(run).text


def test_a_run_without_validation_says_so(run):
    (run / "metrics.jsonl").write_text(json.dumps(HISTORY[0]) + "\n")
    page = page_of(run)
    assert "Nothing was validated" in page.text
    assert len(page.pictures) == 5


def test_one_view_and_no_mistake_leave_nothing_to_sweep_or_show(run):
    (test,) = (run / "test").iterdir()
    test.rename(run / "elsewhere")
    write_test(run, make_logits(right=12, views=1), PROTOCOL.replace("2x3", "1x1"), crops=1)
    page = page_of(run)
    assert "nothing to sweep" in page.text
    assert "Every video that decodes is right." in page.text


def test_the_page_is_written_where_it_was_asked_for(run, tmp_path):
    assert report.write_page(run) == run / "report.html"
    assert report.write_page(run, tmp_path / "new" / "page.html").is_file()


def test_what_is_no_run_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"config\.yaml"):
            report.write_page(folder)


def test_the_tool_says_where_it_wrote_and_refuses_what_is_no_run(run, tmp_path):
    done, wrong = forked([("report.py", "--run", folder) for folder in (run, tmp_path)], tmp_path)
    assert (done.returncode, done.stdout) == (0, f"wrote   {run / 'report.html'}\n"), done.stderr
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


# Contact sheets


@pytest.mark.parametrize(("height", "width"), [(48, 64), (200, 120)])
def test_a_contact_sheet_has_eight_frames_side_by_side(tmp_path, height, width):
    path = numbered_video(tmp_path / "v", 40, height=height, width=width)
    picture, on_page = contact_sheet(path)
    sheet_HWC = np.asarray(Image.open(io.BytesIO(picture)))
    side = min(96, height, width)
    each = width * side // min(height, width)
    assert abs(sheet_HWC.shape[1] - (8 * (each + 2) - 2)) <= 8
    assert on_page == pytest.approx(sheet_HWC.shape[1] * 96 / sheet_HWC.shape[0], rel=0.02)


def test_a_contact_sheet_of_one_frame_repeats_it(one_frame):
    assert Image.open(io.BytesIO(contact_sheet(one_frame)[0])).size[0] > 8 * 40


def test_a_contact_sheet_of_what_is_no_video_names_it(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableVideo, match=r"v\.mp4"):
        contact_sheet(tmp_path / "v.mp4")
