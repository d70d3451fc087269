"""Every command in the README and the docs names a tool, a configuration and keys that exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from videores.ablation import plan, spec
from videores.config import parse
from videores.data import index
from videores.data.lists import Video
from videores.models import create_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("datasets/*/README.md"))]
COMMAND = re.compile(r"(?:python|python -m torch[^`\n]*?) (tools/\w+\.py[^`\n&]*)")


def commands():
    for page in [*PAGES, *sorted(ROOT.glob("configs/*.yaml")), ROOT / "tools" / "ablate.py"]:
        for match in COMMAND.finditer(page.read_text().replace("\\\n", "")):
            yield pytest.param(shlex.split(match[1], comments=True), id=f"{page.relative_to(ROOT)}: {match[1]}")


@pytest.mark.parametrize("words", list(commands()))
def test_command_names_things_that_exist(words):
    assert (ROOT / words[0]).is_file()
    if "--cfg" in words and not {"NAME.yaml", "mine.yaml"} & {*words}:
        overrides = [word for word in words[3:] if re.match(r"[\w.]+=", word) and "..." not in word]
        parse.load_config(words[words.index("--cfg") + 1], overrides)
    if "--rows" in words:
        table = spec.read_table(words[words.index("--table") + 1])
        plan.plan_cells(table, words[words.index("--scale") + 1], words[words.index("--rows") + 1].split(","))


def test_the_configuration_for_own_videos_is_valid():
    page = (ROOT / "docs" / "guide" / "own-videos.md").read_text()
    cfg = parse.build_config(
        yaml.safe_load(re.search(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[1]), page
    )
    create_model(cfg.model.name, 2, **cfg.model.overrides())


def anchors_of(page):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pages_link_to_files_and_headings_that_exist():
    for page in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]*))?\)", page.read_text()):
            path = page.parent / target if target else page
            assert path.exists(), f"{page} links to {target}"
            assert not anchor or anchor in anchors_of(path), f"{page} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_commands_import_what_exists(page):
    for imports in re.findall(r'python -c "(from [\w.]+ import \w+);', page.read_text()):
        exec(imports, {})


def test_the_snippet_makes_ut_interactions_lists(tmp_path, monkeypatch):
    for name in ("segmented_set1/4_1_0", "segmented_set1/17_3_0", "segmented_set2/0_11_4"):
        path = tmp_path / f"datasets/ut-interaction/videos/{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    page = (ROOT / "datasets/ut-interaction/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[1], {})
    found = index.read_index(parse.load_config("r2plus1d_utinteraction.yaml", ["data.val=none"]).data)
    punch = Video("Punching/v_Punching_g11_c00.avi", 4, "g11")
    assert found.train == (Video("HandShaking/v_HandShaking_g01_c04.avi", 0, "g01"), punch)
    assert found.test == (Video("HandShaking/v_HandShaking_g03_c17.avi", 0, "g03"),)


TUTORIAL = (ROOT / "docs" / "guide" / "tutorial.md").read_text()


def test_the_tutorials_snippet_makes_lists_that_test_each_group_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(1, 7):
        Path(f"my-videos/{number}.mp4").parent.mkdir(exist_ok=True)
        Path(f"my-videos/{number}.mp4").touch()
    rows = [f"{number}.mp4,{'Hand wave' if number % 2 else 'Run'},person {number}" for number in range(1, 7)]
    Path("my-videos/all.csv").write_text("\n".join(["path,label,group", *rows]))
    exec(re.search(r"^```python\n(.*?)^```$", TUTORIAL, re.DOTALL | re.MULTILINE)[1], {})
    read = lambda split: index.read_index(
        parse.load_config(
            "r2plus1d_ucf101.yaml",
            ["data.root=my-videos-ucf", "data.splits=null", f"data.split={split}", "data.val=none"],
        ).data
    )
    found = [read(split) for split in (1, 2, 3)]
    assert found[0].classes == ("Hand wave", "Run")
    assert [sorted(video.group for video in one.test) for one in found] == [
        ["g01", "g04"],
        ["g02", "g05"],
        ["g03", "g06"],
    ]
    assert all(len({*one.train, *one.test}) == 6 for one in found)


def test_the_tutorials_configuration_is_that_of_the_results_it_shows(tmp_path):
    (tmp_path / "mine.yaml").write_text(re.search(r"^```yaml\n(.*?)^```$", TUTORIAL, re.DOTALL | re.MULTILINE)[1])
    copies = "datasets/ut-interaction-80/videos"
    keys = [f"data.root={copies}", "data.cache=ram", "data.workers=0", "data.stream=difference"]
    theirs = parse.load_config("r2plus1d_utinteraction.yaml", [*keys, "data.splits=null", "data.source=null"])
    assert parse.load_config(tmp_path / "mine.yaml", []) == theirs


def test_the_tutorials_table_trains_on_the_users_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in zip(
        ("mine", "my_table"), re.findall(r"^```yaml\n(.*?)^```$", TUTORIAL, re.DOTALL | re.MULTILINE), strict=True
    ):
        Path(f"{name}.yaml").write_text(text.replace("root: datasets/ut-interaction-80", "root: my-copies"))
    table = spec.read_table("my_table.yaml")
    for scale in spec.SCALES:
        cells = plan.plan_cells(table, scale)
        assert len(cells) == 18
        assert {cell.config.data.root for cell in cells} == {"my-copies/videos"}


def test_the_two_set_up_commands_are_single_lines_that_ci_finds():
    text = (ROOT / "README.md").read_text()
    for marker in ("train", "tests"):
        block = re.search(rf"^<!-- {marker} -->\n```\w*\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)[1]
        assert "\n" not in block
        assert block.startswith("python3 -m venv .venv && ")
