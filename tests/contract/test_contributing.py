"""CONTRIBUTING.md: its worked examples fit the code as it is, are in style, and their tests pass."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
from helpers.commands import environment
from helpers.source import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COPY = ("videores", "tools", "configs", "tests", "pyproject.toml")


def diffs(example):
    """(file, body) of each block."""
    return re.findall(r"^```diff\n\+\+\+ (\S+)\n(.*?)^```$", EXAMPLES[example], re.MULTILINE | re.DOTALL)


def commands(example):
    """Files and the word after -k of each test command."""
    for command in re.findall(r"^Test: `python -m pytest (.+)`$", EXAMPLES[example], re.MULTILINE):
        *files, _, words = shlex.split(command)
        yield files, words


def apply_diff(path, body):
    """Replace the old lines of each hunk; a hunk of new lines alone is the end of the file."""
    for hunk in re.split(r"^@@\n", body, flags=re.MULTILINE):
        lines = [line if line.strip() else " \n" for line in hunk.splitlines(keepends=True)]
        old, new = ("".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +"))
        text = path.read_text() if path.exists() else ""
        assert not old or text.count(old) == 1, f"CONTRIBUTING.md: {path.name} must have these lines once:\n{old}"
        path.write_text(text.replace(old, new) if old else text + new)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository to which all examples were added."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPY:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    for example in EXAMPLES:
        for name, body in diffs(example):
            apply_diff(folder / name, body)
    return folder


def run(copy, *arguments):
    command = [sys.executable, "-m", *arguments]
    process = subprocess.run(
        command, cwd=copy, env=environment() | {"PYTHONPATH": str(copy)}, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_the_tests_of_all_examples_pass(copy):
    chosen = [command for example in EXAMPLES for command in commands(example)]
    files = sorted({file for files, _ in chosen for file in files})
    output = run(copy, "pytest", "-v", "-p", "no:cacheprovider", *files, "-k", " or ".join(f"({w})" for _, w in chosen))
    passed = re.findall(r"^(tests/\S+)::(.*) PASSED", output, re.MULTILINE)
    for files, words in chosen:
        for file in files:
            assert [test for path, test in passed if path == file and words.split()[0] in test], f"{file} -k {words}"


def test_the_examples_are_in_style(copy):
    run(copy, "ruff", "check", "--quiet", ".")
    run(copy, "ruff", "format", "--check", "--quiet", ".")


def test_the_overview_has_each_example_with_its_files_and_lines():
    rows = re.findall(r"^\| \[([\w ]+)\]\(#[\w-]+\) \| (.+) \| `\S+` \| (\d+) \+ (\d+) \|$", PAGE, re.MULTILINE)
    assert [name.capitalize() for name, *_ in rows] == list(EXAMPLES)
    for name, files, *counts in rows:
        found = diffs(name.capitalize())
        added = [
            [body.count("\n+") + body.startswith("+") for path, body in found if is_test(path) == of_tests]
            for of_tests in (False, True)
        ]
        assert [str(sum(lines)) for lines in added] == counts, name
        listed = re.findall(r"`(\S+)`", files)
        assert all(any(file in path for path, _ in found) for file in listed), name
        assert all(any(file in path for file in listed) for path, _ in found if not is_test(path)), name


def is_test(path):
    return path.startswith("tests/")
