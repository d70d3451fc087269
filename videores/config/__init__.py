"""Configuration of a run, read from YAML and `key=value` overrides and checked.

`schema` has the typed sections with their defaults, `checks` the contradictions between keys, `parse` the YAML reader.
"""

from videores.config.parse import dump_config, load_config, to_yaml
from videores.config.schema import Config

__all__ = ["Config", "dump_config", "load_config", "to_yaml"]
