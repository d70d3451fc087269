"""A run, phase by phase: resolve, check, prepare data, build, train, test, report.

`train` is tools/train.py; `evaluate` and, without a run folder, `evaluate_source` are tools/evaluate.py. The helpers of
a phase are in training/setup.py. All that can be wrong is checked before the run folder is written to.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl

from videores.compute.scoring import set_score_layout
from videores.config.schema import Config
from videores.data.datamodule import VideoData
from videores.inference import class_map
from videores.inference.class_map import MappedNetwork
from videores.inference.testing import SourceTest, digest_source_test
from videores.reporting import plots, results
from videores.runtime import cli, failures
from videores.runtime.launch import is_rank_zero, run_local_ranks
from videores.runtime.signals import SignalHandler, exit_on_sigterm
from videores.training import run_folder, setup, summary
from videores.training.callbacks.checkpointing import Checkpointing
from videores.training.module import Run, VideoClassifier
from videores.training.resume import ResumePoint
from videores.training.setup import Network
from videores.training.trainer import make_hardware_options


def train(cfg: Config, config_name: str) -> int:
    """Train, then test the best checkpoint, and return the exit code.

    Without validation videos the last checkpoint is tested. Raises UserError for wrong input, and SignalInterrupt where
    a signal ended the run, which run.resume=auto continues.
    """
    # resolve
    folder = run_folder.resolve_run_folder(cfg, config_name)
    run_folder.check_run_folder(cfg, folder)
    with run_folder.RunLock(cfg, folder) as lock, SignalHandler() as signals:
        # check
        hardware = setup.check_machine(cfg)
        signals.raise_at_once = hardware["strategy"] == "auto"  # several ranks stop together, at the end of a step
        # prepare data
        inputs = setup.prepare_inputs(cfg, folder, hardware)
        # build
        network = setup.build_network(cfg, inputs.videos.index.classes, inputs.resume_point)
        lock.acquire()
        run_folder.prepare_run_folder(cfg, folder)
        record = run_folder.RunRecord(folder, cfg)
        data = VideoData.from_config(cfg, inputs.videos, inputs.gap_indices)
        checkpointing = Checkpointing(folder, cfg.run, inputs.signature, signals)
        trainer = setup.build_trainer(hardware, cfg, inputs, checkpointing, record)
        run = Run(cfg, folder, network.module, data, trainer)
        record.update(own_parts=inputs.own_parts)
        _report_start(run, network, record, inputs.resume_point)
        # train, test, report
        signals.raise_at_once = False
        return _train_and_test(run, record, inputs.resume_point)


class Tested(NamedTuple):
    """The end of a test."""

    folder: Path | None  # of its files; None in a rank that writes none
    exit_code: int  # 1 where videos do not decode


def evaluate(cfg: Config, folder: Path, checkpoint: Path | None = None, part: str = "test") -> int:
    """Test a run's checkpoint, the best by default, and return the exit code.

    It scores the test videos, or with part="val" the validation videos, each under their protocol of `cfg`. Raises
    UserError for wrong input.
    """
    return evaluate_protocols([cfg], folder, checkpoint, part)[0].exit_code


def evaluate_protocols(
    cfgs: Sequence[Config], folder: Path, checkpoint: Path | None = None, part: str = "test"
) -> list[Tested]:
    """Test a run's checkpoint under the protocols of several configurations.

    They differ in nothing but the views of the part, so that videos are probed, and with data.cache=ram decoded, once.
    Raises UserError for wrong input.
    """
    cfg = cfgs[0]
    hardware = make_hardware_options(cfg.trainer)
    setup.import_own_parts(cfg, folder)
    videos = setup.prepare_test_videos(cfg, part)
    trainer = setup.build_test_trainer(cfg, folder, hardware, videos)
    if is_rank_zero() and (note := run_folder.format_unfinished_note(folder)):
        print(f"note    {note}")
    checkpoint, decoded = checkpoint or run_folder.find_best_checkpoint(folder), VideoData.from_config(cfg, videos)
    with exit_on_sigterm(), _run_all_ranks(trainer):
        return [_test(_build_test(changed, folder, decoded, trainer), checkpoint, part) for changed in cfgs]


def _build_test(cfg: Config, folder: Path, decoded: VideoData, trainer: pl.Trainer) -> Run:
    data = VideoData.from_config(cfg, decoded.videos, decoded=decoded)
    return Run(cfg, folder, VideoClassifier(cfg, decoded.videos.index.classes), data, trainer)


def evaluate_source(tested: SourceTest, part: str = "test") -> int:
    """Test an exported file or public weights, and return the exit code.

    It is 1 where videos do not decode, or the weights do not have a class of the data: those count as wrong.
    """
    cfg, network = tested.cfg, tested.network
    hardware = make_hardware_options(cfg.trainer)
    videos = setup.prepare_test_videos(cfg, part)
    classes = videos.index.classes
    outputs_N = class_map.map_classes(network.classes, classes, tested.class_map)
    is_same = network.classes == tuple(classes) and not tested.class_map
    module = VideoClassifier(cfg, classes, network.model if is_same else MappedNetwork(network.model, outputs_N))
    trainer = setup.build_test_trainer(cfg, tested.folder, hardware, videos)
    run = Run(cfg, tested.folder, module, VideoData.from_config(cfg, videos), trainer)
    tested_list = {"source": cfg.data.splits or cfg.data.root, "hash": setup.hash_lists(videos)[part]}
    digest = digest_source_test(tested, part, tested_list["hash"])
    if is_rank_zero():
        for line in class_map.format_map(network.classes, classes, outputs_N):
            print(line, file=sys.stderr)
    with exit_on_sigterm(), _run_all_ranks(trainer):
        scores = _score(run, part)
        if is_rank_zero():
            results.write_test(
                tested.folder, cfg, scores, {"checkpoint": tested.about, "list": tested_list}, digest=digest
            )
    return 1 if any(videos.unreadable.values()) or not all(outputs_N) else 0


def _report_start(run: Run, network: Network, record: run_folder.RunRecord, resume_point: ResumePoint | None) -> None:
    """Write and print the facts of a run that are known before its first step."""
    values = setup.collect_start_record(run, network)
    lists = record.values.get("lists") or setup.hash_lists(run.data.videos)  # the first that the run had
    record.update(**values, lists=lists)
    if is_rank_zero():
        print(summary.format_start(run, network.gmacs, values["readers"], resume_point))


def _train_and_test(run: Run, record: run_folder.RunRecord, resume_point: ResumePoint | None) -> int:
    """Train and test on all ranks; record the end and plot the curves, failed or not."""
    try:
        record.add_start(resume_point.step if resume_point else 0, resume_point.inexact if resume_point else [])
        with _run_all_ranks(run.trainer):
            _fit(run, resume_point)
            checkpoint = run_folder.find_best_checkpoint(run.folder)
            code = max(_test_control(run, checkpoint), test(run, checkpoint, "test"))
        record.add_end(code)
        if is_rank_zero():
            print(summary.format_next_command(run.folder), file=sys.stderr)  # results end standard output
        return code
    except BaseException as error:
        with suppress(OSError):  # a full disk takes no record either, and is the error already
            record.add_end(cli.select_exit_code(error), error=str(error) or type(error).__name__)
        raise
    finally:
        if is_rank_zero():
            with suppress(OSError):
                plots.plot_curves(run.folder)


@contextmanager
def _run_all_ranks(trainer: pl.Trainer) -> Iterator[None]:
    """Run the other ranks of this machine within the block; explain their errors."""
    with run_local_ranks(trainer.num_devices, trainer.num_nodes), failures.translate_errors():
        yield


def _fit(run: Run, resume_point: ResumePoint | None) -> None:
    first_step, began = resume_point.step if resume_point else 0, time.monotonic()
    run.trainer.fit(run.module, run.data, ckpt_path=resume_point.path if resume_point else None, weights_only=True)
    if is_rank_zero():
        steps, seconds = run.trainer.global_step - first_step, time.monotonic() - began
        print(summary.format_end(steps, seconds, run.trainer.current_epoch))


def test(run: Run, checkpoint: Path, part: str) -> int:
    """Score the videos of `part` with a checkpoint's weights and report the result.

    The exit code is 1 where videos do not decode, which count as wrong.
    """
    return _test(run, checkpoint, part).exit_code


def _test_control(run: Run, checkpoint: Path) -> int:
    """Test the answers to a pretext on still clips, in which only a leak can tell the change; return the exit code."""
    if not run.cfg.data.pretext:
        return 0
    still = run.cfg.model_copy(update={"test": run.cfg.test.model_copy(update={"order": "static"})})
    data = VideoData.from_config(still, run.data.videos, decoded=run.data)
    tested = _test(replace(run, cfg=still, data=data), checkpoint, "test")
    if tested.folder:
        print(results.format_leak(tested.folder))
    return tested.exit_code


def _test(run: Run, checkpoint: Path, part: str) -> Tested:
    weights = {"file": os.path.relpath(checkpoint, run.folder), **setup.load_weights_for_test(run.module, checkpoint)}
    gap, written = weights.pop("gap", None), None
    scores = _score(run, part)
    if is_rank_zero():
        tested_list, digest = setup.identify_test(run, checkpoint, part)
        tested = {"checkpoint": weights, "list": tested_list}
        written = results.write_test(run.folder, run.cfg, scores, tested, gap, digest)
    return Tested(written, 1 if any(scores.videos.unreadable.values()) else 0)


def _score(run: Run, part: str) -> results.TestScores:
    """Score the videos of a part; those that no longer decode become unreadable."""
    set_score_layout(run.module.model, run.trainer.strategy.root_device.type, run.cfg.trainer.score_precision)
    (run.trainer.test if part == "test" else run.trainer.validate)(run.module, run.data, verbose=False)
    scored, unreadable = run.data.dataset(part).videos, run.data.videos.unreadable
    failed = [scored[number].path for number in run.module.scoring[part].scores.failed_V.nonzero()]
    unreadable[part].update(dict.fromkeys(failed, "no longer decodes"))
    return results.TestScores(part, run.data.videos, scored, run.module.logits_VKN)
