"""Optional TensorBoard and Weights & Biases logging of the rows of metrics.jsonl."""

from importlib import metadata
from pathlib import Path

from videores.config import parse
from videores.config.schema import Config, WatchConfig
from videores.errors import UserError


def check_loggers_installed(watch: WatchConfig) -> None:
    """Raise UserError for a requested logger whose package is not installed."""
    for package, is_on in (("tensorboard", watch.tensorboard), ("wandb", watch.wandb is not None)):
        if is_on:
            check_package_installed(package, f"watch.{package}")


def check_package_installed(package: str, key: str) -> None:
    """Raise UserError where a package is not installed that the key needs."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        raise UserError(f"{key} needs the package {package}: pip install {package}, or leave it out") from None


def open_loggers(cfg: Config, folder: Path, step: int) -> "list[_TensorBoardLogger | _WandbLogger]":
    """Open the requested loggers, on rank 0.

    `step` is where training starts: a resumed run repeats what came after it.
    """
    loggers: list[_TensorBoardLogger | _WandbLogger] = []
    if cfg.watch.tensorboard:
        loggers.append(_TensorBoardLogger(folder / "tensorboard", step))
    if cfg.watch.wandb:
        loggers.append(_WandbLogger(cfg, folder))
    return loggers


class _TensorBoardLogger:
    """Write event files; a resumed run replaces the rows after its first step."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: the package may not be there

        self.writer = SummaryWriter(folder, purge_step=step + 1 if step else None)

    def write(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # a killed run keeps what it wrote

    def close(self) -> None:
        self.writer.close()


class _WandbLogger:
    """Log to W&B, each start of a run as one of W&B's runs, in one group.

    WANDB_MODE=offline writes <run folder>/wandb/ alone.
    """

    def __init__(self, cfg: Config, folder: Path) -> None:
        import wandb  # here: the package may not be there

        options = dict(project=cfg.watch.wandb, name=folder.name, group=folder.name, dir=folder)
        settings = wandb.Settings(silent=True, console="off")  # the last lines on the screen are the run's own
        try:
            self.run = wandb.init(**options, config=parse.dump_config(cfg), settings=settings)
        except wandb.Error as error:  # no account, no network
            raise UserError(f"watch.wandb: {error} (WANDB_MODE=offline needs no account)") from None

    def write(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()
