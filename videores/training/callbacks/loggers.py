"""Where the rows of metrics.jsonl go too, on request; opened when training starts and closed when it ends."""

from importlib import metadata

from videores.config import parse
from videores.errors import UserError


def check_loggers_installed(watch):
    """Raises UserError where a library that was asked for is not installed."""
    for name, on in (("tensorboard", watch.tensorboard), ("wandb", watch.wandb is not None)):
        if on:
            check_package_installed(name, f"watch.{name}")


def check_package_installed(package, key):
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        raise UserError(f"{key} needs the package {package}: pip install {package}, or leave it out") from None


def open_loggers(cfg, folder, step):
    """Of the first process. `step` is where training starts: a resumed run repeats what came after it."""
    sinks = [TensorBoardLogger(folder / "tensorboard", step)] if cfg.watch.tensorboard else []
    return [*sinks, WandbLogger(cfg, folder)] if cfg.watch.wandb else sinks


class TensorBoardLogger:
    def __init__(self, folder, step):
        from torch.utils.tensorboard import SummaryWriter  # here: the package may not be there

        self.writer = SummaryWriter(folder, purge_step=step + 1 if step else None)

    def write(self, row):
        for name, value in select_numbers(row).items():
            self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()  # a killed run keeps what it wrote

    def close(self):
        self.writer.close()


class WandbLogger:
    """Each start of a run is one of W&B's, of one group; WANDB_MODE=offline writes <run folder>/wandb/ alone."""

    def __init__(self, cfg, folder):
        import wandb  # here: the package may not be there

        how = dict(project=cfg.watch.wandb, name=folder.name, group=folder.name, dir=folder)
        quiet = wandb.Settings(silent=True, console="off")  # the last lines on the screen are the run's own
        try:
            self.run = wandb.init(**how, config=parse.dump_config(cfg), settings=quiet)
        except wandb.Error as error:  # no account, no network
            raise UserError(f"watch.wandb: {error} (WANDB_MODE=offline needs no account)") from None

    def write(self, row):
        self.run.log(select_numbers(row), step=row["step"])

    def close(self):
        self.run.finish()


def select_numbers(row):
    return {name: value for name, value in row.items() if name != "step" and value is not None}
