"""Find the folders that come with videores: configs and tools, beside the package or, in a wheel, inside it."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def find_shipped(name: str) -> Path:
    """Return the folder `name` of the repository, or of an installed wheel."""
    is_repository = (PACKAGE.parent / "pyproject.toml").is_file()
    return (PACKAGE.parent if is_repository else PACKAGE) / name
