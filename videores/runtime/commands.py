"""Run the tools as `videores <command> ...`: videores train is python tools/train.py."""

import ast
import os
import sys
from pathlib import Path

from videores import __version__
from videores.config.shipped import find_shipped
from videores.errors import format_suggestion

REPOSITORY_TOOLS = ("benchmark", "reference")  # for work on videores itself: they are in no wheel


def list_commands() -> dict[str, Path]:
    """Return the tools by the names of their commands."""
    paths = {path.stem.replace("_", "-"): path for path in sorted(find_shipped("tools").glob("*.py"))}
    return {name: path for name, path in paths.items() if name not in REPOSITORY_TOOLS}


def main() -> int:
    """Replace this process by the tool that the command line names, so that both are one."""
    commands = list_commands()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_format_help(commands), end="")
        return 0
    if name == "--version":
        print(f"videores {__version__}")
        return 0
    if name not in commands:
        hint = format_suggestion(name, commands)
        print(f"error: videores has no command {name!r}{hint}; it has {', '.join(commands)}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(commands[name]), *arguments])


def _format_help(commands):
    lines = ["usage: videores COMMAND ...  (videores COMMAND --help tells its options)", ""]
    for name, path in commands.items():
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:12} {' '.join(doc.partition(chr(10) * 2)[0].split())}")
    return "\n".join(lines) + "\n"
