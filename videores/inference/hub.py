"""Share a trained network on the Hugging Face Hub, or in a folder: one file, and a card that is made from it."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import Self

from videores.errors import UserError
from videores.inference.card import build_card
from videores.inference.export import describe_run
from videores.inference.features import hash_weights
from videores.inference.predictor import Predictor
from videores.inference.record import check_record, collect_record
from videores.inference.source import TrainedNetwork, resolve_source
from videores.models.weights import names, safetensors
from videores.runtime.files import write_text
from videores.training.run_files import find_best_checkpoint

try:
    from huggingface_hub import ModelHubMixin, errors
except ImportError:
    raise UserError(names.HUB_ADVICE) from None

CARD = "README.md"
# the hub counts downloads by this file; all facts are in the header of model.safetensors
HUB_CONFIG = {"library_name": "videores", "weights": names.HUB_FILE}
SHARED = ("record", "config", "license")  # what the metadata of a shared file must have


class HubPredictor(Predictor, ModelHubMixin, library_name="videores"):
    """A predictor with `save_pretrained`, `from_pretrained` and `push_to_hub` of huggingface_hub.

    `from_run` makes one of a run that has ended. The network is in evaluation mode, as `videores.load` returns it.
    """

    _hub_mixin_config = HUB_CONFIG  # which the mixin else makes of the arguments, a copy of the network

    def __init__(self, network: TrainedNetwork, about: Mapping[str, Any]):
        super().__init__(network)
        self.about = about  # the metadata of the file
        self._digest = hash_weights(network.model)

    @classmethod
    def from_run(cls, run: str | Path, *, license: str | None = None, device: str = "cpu") -> Self:
        """Return the network of a run's best checkpoint, with the run's results.

        Args:
            run: a run folder.
            license: of the weights, as the hub names it, e.g. "cc-by-4.0"; None: the card says that none was stated.

        Raises:
            UserError: if the run has not ended or was not tested.
        """
        record, checkpoint = collect_record(Path(run)), find_best_checkpoint(Path(run))
        more = {**describe_run(checkpoint)[1], "record": record, "license": license}
        with tempfile.TemporaryDirectory() as folder:  # what is shared is what was read from a file
            path = Path(folder, names.HUB_FILE)
            safetensors.export_weights(checkpoint, path, more)
            return cls._read(path, str(run), device)

    @classmethod
    def _read(cls, path: Path, name: str, device: str) -> Self:
        about = safetensors.read_safetensors(path)[1]
        if missing := [key for key in SHARED if key not in about]:
            raise UserError(f"{name} must say its {missing[0]} to be shared: write it by tools/export.py --format hub")
        check_record(about["record"], name)
        return cls(replace(resolve_source(path, device), source=name), about)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "cpu",
        **others: Any,
    ) -> Self:
        """Read a folder or, where there is none, a repository of the hub; called by `from_pretrained`."""
        if others:
            raise UserError(f"{model_id}: from_pretrained takes device, got {', '.join(others)}: leave it out")
        path = Path(model_id, names.HUB_FILE)
        if not Path(model_id).is_dir():
            options = dict(revision=revision, cache_dir=cache_dir, force_download=force_download)
            path = Path(names.download_file(model_id, local_files_only=local_files_only, token=token, **options))
        return cls._read(path, model_id, device)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write model.safetensors, its card README.md, and config.json, which only names the file.

        Raises UserError for a folder of something else, which is not written to, and for weights that were changed.
        """
        folder = Path(save_directory)
        if ((folder / CARD).exists() and not (folder / names.HUB_FILE).exists()) or (folder / "config.yaml").exists():
            raise UserError(f"{folder} must be new or a folder of save_pretrained: give another, it holds other files")
        return super().save_pretrained(folder, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write all files; called by `save_pretrained` and `push_to_hub`."""
        if hash_weights(self.network.model) != self._digest:
            raise UserError(
                f"{self.network.source} must have the weights that its results are of, and they were changed: train "
                "with model.weights=..., and share that run"
            )
        safetensors.write_safetensors(save_directory / names.HUB_FILE, self.network.model.state_dict(), self.about)
        write_text(save_directory / CARD, self.build_card())

    def build_card(self) -> str:
        """Build the text of the model card."""
        return build_card(self.about, self.preprocessing)


HubPredictor._hub_mixin_init_parameters = {}  # nothing that a config.json has is an argument


def push(shared: HubPredictor, repository: str, private: bool = False) -> str:
    """Upload a network to a repository of the hub, which is made where there is none; return its address.

    Raises UserError where the hub refuses, or cannot be reached.
    """
    try:
        return str(shared.push_to_hub(repository, private=private or None))
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--push {repository}: {reason}; check the name <user>/<name>, and hf auth login") from None
