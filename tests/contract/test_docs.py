"""The pages: each has a place, generated ones are current, and they name all keys, formats, metrics and interfaces."""

import re

import numpy as np
import pytest
import reference
import yaml
from contract.test_interfaces import INTERFACE
from helpers.source import MODULES, ROOT

from videores.data import formats
from videores.evaluation import metrics

DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", ["configuration.md", "ablation-tables.md"])
def test_the_reference_is_what_the_tool_writes(name):
    assert (DOCS / "reference" / name).read_text() == reference.build_pages()[name], "run tools/reference.py"


def test_every_key_of_the_configuration_has_a_meaning():
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", reference.build_pages()["configuration.md"], re.MULTILINE)
    assert len(rows) > 100
    assert [key for key, meaning in rows if not meaning.strip()] == []


def test_pages_name_every_list_format_metric_and_tool():
    missing = lambda page, words: [name for name in words if f"`{name}`" not in (DOCS / "guide" / page).read_text()]
    assert missing("own-videos.md", formats.READERS) == []
    assert missing("evaluation.md", metrics.compute_metrics(np.eye(6)[:, None], np.arange(6), "softmax-mean")) == []
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md"))
    assert [path.name for path in (ROOT / "tools").glob("*.py") if f"tools/{path.name}" not in pages] == []


def pages_of(nav):
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from [value] if isinstance(value, str) else pages_of(value)


def test_the_index_of_the_site_has_every_page_once():
    listed = list(pages_of(yaml.safe_load((ROOT / ".ci" / "mkdocs.yml").read_text())["nav"]))
    tables = set(DOCS.glob("ablations/*/**/*.md"))  # listed by ablations/README.md
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in {*DOCS.rglob("*.md")} - tables)


def test_api_pages_cover_what_crosses_packages():
    text = "\n".join(path.read_text() for path in (DOCS / "reference" / "api").glob("*.md"))
    covered = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(covered) == len(set(covered))
    assert set(covered) <= set(MODULES)
    assert [name for name in INTERFACE if name.rpartition(".")[0] not in covered] == []
