"""Fixtures of all tests: the cache folder, numbered videos, a small data set, and where other test data is."""

import logging
import os
import warnings
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: as many processes as cores, a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from helpers.videos import AVAILABLE, numbered_video, write_csv

pytest.register_assert_rewrite("helpers.commands")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """VIDEORES_CACHE for all tests and the processes they start, so that no manifest lands in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEORES_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """codec -> path of a 40-frame 64 x 48 video of each of AVAILABLE."""
    folder = tmp_path_factory.mktemp("numbered")
    return {codec: numbered_video(folder / codec, 40, codec) for codec in AVAILABLE}


@pytest.fixture(scope="session")
def one_frame(tmp_path_factory):
    """A video of one frame, which shows 7."""
    return numbered_video(tmp_path_factory.mktemp("one") / "one", 1, start=7)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(place, process): a working folder with data/, tiny.yaml and runs/tiny, and the real process that trained it.

    Tests leave runs/tiny as it is.
    """
    from helpers.commands import succeeded, tool, write_place

    place = write_place(tmp_path_factory.mktemp("trained"))
    return place, succeeded(tool("train.py", "--cfg", "tiny.yaml", cwd=place))


@pytest.fixture(scope="session")
def shared_data():
    """The folder of test data that is not part of the project (real clips, quirky files, official lists)."""
    folder = os.environ.get("VIDEORES_TEST_DATA")
    if not folder:
        pytest.skip(
            "VIDEORES_TEST_DATA is not set: it names a folder with ut-interaction-6/, videos/ and splits/ucf101/"
        )
    if not Path(folder).is_dir():
        pytest.fail(f"VIDEORES_TEST_DATA={folder} is not a folder")
    return Path(folder)


@pytest.fixture
def one_quiet_thread():
    """One thread, since sums over several may round differently; none of Lightning's advice."""
    import torch

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight videos of two classes that a network can tell apart, and two for the test."""
    folder = tmp_path_factory.mktemp("videos")
    train = [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)]
    write_csv(folder, {"train": train, "test": [("e0.mp4", "a", "h"), ("e1.mp4", "b", "i")]}, height=32, width=32)
    return folder
