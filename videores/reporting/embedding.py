"""Draw features in two dimensions: t-SNE and UMAP, of the trained network and of the same with random weights."""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from videores.errors import UserError
from videores.evaluation.neighbors import VideoSet, normalize_features
from videores.reporting import figures
from videores.runtime.files import write_atomically

PACKAGES = {"t-SNE": "scikit-learn", "UMAP": "umap-learn"}
MIN_VIDEOS = 4  # UMAP needs as many
MAX_NAMED = 20  # classes with a color of their own and a place in the legend


def check_packages_installed() -> None:
    """Raise UserError where t-SNE or UMAP is absent."""
    for method, package in PACKAGES.items():
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UserError(
                f'{method} needs the package {package}: pip install -e ".[features]", or add --no-picture'
            ) from None


def choose_settings(videos: int, perplexity: float, seed: int) -> dict[str, dict[str, Any]]:
    """Return the settings of both methods, lower where there are too few videos for the usual ones."""
    version = lambda method: f"{PACKAGES[method]} {metadata.version(PACKAGES[method])}"
    tsne = dict(perplexity=min(perplexity, (videos - 1) / 3), init="pca", seed=seed, package=version("t-SNE"))
    umap = dict(n_neighbors=min(15, videos - 1), min_dist=0.1, seed=seed, package=version("UMAP"))
    return {"t-SNE": tsne, "UMAP": umap}


def embed_features(features_VD: np.ndarray, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return {"t-SNE": xy_V2, "UMAP": xy_V2} of features of length 1, whose distances are those of the neighbors."""
    import umap  # here, as both are of the extra `features`; it compiles for seconds
    from sklearn.manifold import TSNE

    x_VD, tsne, about = normalize_features(features_VD).astype(np.float32), settings["t-SNE"], settings["UMAP"]
    by_tsne = TSNE(perplexity=tsne["perplexity"], init=tsne["init"], random_state=tsne["seed"])
    by_umap = umap.UMAP(
        n_neighbors=about["n_neighbors"], min_dist=about["min_dist"], random_state=about["seed"], n_jobs=1
    )  # with a seed it takes one job
    return {"t-SNE": by_tsne.fit_transform(x_VD), "UMAP": by_umap.fit_transform(x_VD)}


def write_embedding(
    folder: Path,
    networks: Mapping[str, VideoSet],
    classes: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    title: str,
) -> list[Path]:
    """Write embedding.png, .svg and .npz of the same videos in several networks; return their paths.

    embedding.npz has video, label, classes, the settings as JSON, and the coordinates of each network and method.
    """
    found = {name: embed_features(videos.features_VD, settings) for name, videos in networks.items()}
    first = next(iter(networks.values()))
    points = {f"{method} {name}": xy_V2 for name, by_method in found.items() for method, xy_V2 in by_method.items()}
    path = folder / "embedding.npz"
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = dict(video=first.video, label=first.label_V, classes=classes, **points)
        np.savez(file, **arrays, settings=np.array(json.dumps(settings)))
    plot_embedding(folder / "embedding.png", found, first.label_V, classes, settings, title)
    return [folder / "embedding.png", path]


def plot_embedding(
    path: Path,
    found: Mapping[str, Mapping[str, np.ndarray]],
    label_V: np.ndarray,
    classes: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    title: str,
) -> None:
    """Plot a panel for each network and method; a color is a class.

    Classes have numbers where `figures.label_classes` finds no font for their names; many have no legend.
    """
    methods = list(settings)
    figure, axes = plt.subplots(len(found), len(methods), figsize=(9, 4.3 * len(found)), squeeze=False)
    figure.set_layout_engine("constrained")
    colors = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20" if len(classes) <= MAX_NAMED else "turbo")
    pick: Any = lambda label: colors(label if len(classes) <= MAX_NAMED else label / (len(classes) - 1))
    for row, (name, by_method) in zip(axes, found.items(), strict=True):
        for panel, method in zip(row, methods, strict=True):
            for label in np.unique(label_V):
                xy_P2 = by_method[method][label_V == label]
                panel.scatter(*xy_P2.T, s=max(4, 36 - len(label_V) / 20), color=pick(label), linewidth=0, alpha=0.8)
            panel.set_title(f"{method}, {name}", fontsize=10)
            panel.set(xticks=[], yticks=[], xlabel=_format_settings(settings[method]))
    if len(classes) <= MAX_NAMED:
        names = [figures.escape_text(figures.shorten_text(name, 30)) for name in figures.label_classes(classes)]
        dots = [plt.Line2D([], [], marker="o", linestyle="", color=pick(label)) for label in range(len(classes))]
        figure.legend(dots, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=9, frameon=False)
    figure.suptitle(figures.wrap_title(title, 8.5), fontsize=11)
    figures.save_figure(figure, path)


def _format_settings(settings):
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items() if name != "package")
