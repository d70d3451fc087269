"""Read the lists of a data set, or the message with which they are refused."""

import pytest

from videores.config.schema import DataConfig
from videores.data import index
from videores.errors import UserError


def read(values, **more):
    return index.read_index(DataConfig(**values, **more))


def refused(values, **more):
    with pytest.raises(UserError) as caught:
        read(values, **more)
    return str(caught.value)
