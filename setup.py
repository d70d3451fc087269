"""Put configs and tools, which lie beside the package, into the wheel; all else is in pyproject.toml."""

from setuptools import find_packages, setup

SHIPPED = {"videores.configs": "configs", "videores.configs.ablations": "configs/ablations", "videores.tools": "tools"}

setup(packages=[*find_packages(include=["videores*"]), *SHIPPED], package_dir=SHIPPED)
