"""Options of Lightning's trainer: what is refused on a CPU, and what a machine with GPUs would be given."""

import pytest
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from videores.config.schema import TrainerConfig
from videores.errors import UserError
from videores.training.trainer import check_training_device, make_ddp_options, make_hardware_options


def test_options_of_gpus_are_refused_on_a_cpu():
    for key, value in (("sync_batchnorm", True), ("compression", "fp16"), ("precision", "fp16")):
        with pytest.raises(UserError, match=f"trainer.{key}"):
            check_training_device(TrainerConfig(accelerator="cpu", devices=2, **{key: value}))
    with pytest.raises(UserError, match=r"trainer\.score_precision=fp16"):
        make_hardware_options(TrainerConfig(accelerator="cpu", score_precision="fp16"))


def options(accelerator, accumulate=1, **values):
    return make_ddp_options(accelerator, TrainerConfig(**values), accumulate)


def test_options_of_ddp():
    assert options("gpu")["process_group_backend"] == "nccl"
    assert options("cpu")["process_group_backend"] == "gloo"
    assert options("cpu")["timeout"].total_seconds() == 600
    assert options("cpu", timeout=0.5)["timeout"].total_seconds() == 30
    assert [options("cpu", accumulate)["static_graph"] for accumulate in (1, 2)] == [True, False]


def test_gradients_are_compressed_on_request_only():
    assert options("gpu")["ddp_comm_hook"] is None
    assert options("gpu", compression="bf16")["ddp_comm_hook"] is default_hooks.bf16_compress_hook
    assert options("gpu", compression="fp16")["ddp_comm_hook"] is default_hooks.fp16_compress_hook


def test_buffers_are_sent_unless_all_ranks_have_the_same():
    assert "broadcast_buffers" not in options("gpu")
    assert options("gpu", sync_batchnorm=True)["broadcast_buffers"] is False
