"""Lightning's trainer for a configuration: what is refused on a CPU, and what a machine with GPUs would be given."""

import pytest
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from videores.config.schema import TrainerConfig
from videores.errors import UserError
from videores.training import trainer as trainers


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sync_batchnorm": True}, "trainer.sync_batchnorm is for GPUs"),
        ({"compression": "fp16"}, "trainer.compression=fp16 is for GPUs"),
        ({"precision": "fp16"}, "trainer.precision=fp16 is for GPUs"),
        ({"compression": "bf16"}, "trainer.compression=bf16 is for GPUs"),
    ],
)
def test_what_only_gpus_can_is_refused_on_a_cpu_with_the_reason(values, reason):
    with pytest.raises(UserError, match=reason):
        trainers.check_training_device(TrainerConfig(accelerator="cpu", devices=2, **values))


def options(accelerator, accumulate=1, **values):
    return trainers.make_ddp_options(accelerator, TrainerConfig(**values), accumulate)


def test_gpus_talk_by_nccl_and_cpus_by_gloo():
    assert options("gpu")["process_group_backend"] == "nccl"
    assert options("cpu")["process_group_backend"] == "gloo"


def test_gradients_are_compressed_on_request_only():
    assert options("gpu")["ddp_comm_hook"] is None
    assert options("gpu", compression="bf16")["ddp_comm_hook"] is default_hooks.bf16_compress_hook
    assert options("gpu", compression="fp16")["ddp_comm_hook"] is default_hooks.fp16_compress_hook


def test_buffers_are_sent_unless_all_processes_have_the_same():
    assert "broadcast_buffers" not in options("gpu")
    assert options("gpu", sync_batchnorm=True)["broadcast_buffers"] is False


def test_the_time_out_is_in_minutes():
    assert options("cpu")["timeout"].total_seconds() == 600
    assert options("cpu", timeout=0.5)["timeout"].total_seconds() == 30
