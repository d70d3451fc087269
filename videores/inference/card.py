"""Write the model card of a run: README.md of a folder that is shared, from the record of the run alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from videores.config.parse import build_config
from videores.evaluation.floors import ComparedFloors
from videores.inference.preprocessing import Preprocessing
from videores.inference.record import Result, RunRecord, format_commit, format_interval
from videores.runtime.own_parts import is_import_path
from videores.runtime.tables import format_markdown_table

TASK = "video-classification"
COLUMNS = ("protocol", "clip top-1", "video top-1", "95 % interval", "mean class", "best floor", "videos")

TEMPLATE = """---
{front_matter}---

# {title}

{network} on {data}: {accuracy} % of {videos} test videos are right (95 % interval {interval}; protocol
{protocol}).

## Use

{requirements}

```python
import videores

predictor = videores.load("hub:<user>/<name>")  # or this folder
print(predictor.predict("clip.mp4").label)
```

`videores.load` returns the network in evaluation mode, with its preprocessing. `model.safetensors` holds weights,
classes, preprocessing, configuration and these results.

## Results

{results}

Accuracies in per cent of the test videos. The interval is a bootstrap over {over}. A floor is what a prediction
without a network reaches: the majority class, or the nearest training video by frame size and length, or by thumbnail.
{marks}
## Input

`{preprocessing}`: frames x stride @ crop / short side, clips x crops of a video, and how their scores are
fused. Mean {mean}, standard deviation {std}.

## Classes

{classes}

## Training

{training}

## Terms

{terms}

## Configuration

What differs from the defaults; the header of `model.safetensors` has all of it.

```yaml
{config}```
"""


def build_card(about: Mapping[str, Any], preprocessing: Preprocessing) -> str:
    """Build the Markdown of a model card from the metadata of a file.

    `about` has "record", "classes", "config" and "license".
    """
    record: RunRecord = about["record"]
    results, transform = record["results"], preprocessing.transform
    main = results[0]
    return TEMPLATE.format(
        front_matter=_format_front_matter(record, about["license"]),
        title=record["name"],
        network=record["network"],
        data=record["data"],
        accuracy=f"{main['video_top1']:.1f}",
        videos=main["expected"],
        interval=format_interval(main),
        protocol=f"`{main['protocol']}`",
        requirements=_format_requirements(record),
        results=format_markdown_table(COLUMNS, map(_format_row, results)),
        over=main["ci95_over"],
        marks=_format_marks(results),
        preprocessing=preprocessing,
        mean=list(transform.mean),
        std=list(transform.std),
        classes=_format_code(about["classes"]),
        training=_format_training(record),
        terms=_format_terms(record, about["license"]),
        config=yaml.safe_dump(_list_changes(about["config"]), sort_keys=False),
    )


def _format_front_matter(record, license):
    """Return the YAML that the hub reads; the license is left out where it was not stated."""
    results = [
        {
            "task": {"type": TASK},
            "dataset": {"name": record["data"], "type": record["data"]},
            "metrics": [
                {"type": "accuracy", "name": f"video top-1, {r['protocol']}", "value": round(r["video_top1"], 2)}
            ],
        }
        for r in record["results"]
    ]
    values = {
        **({"license": license} if license else {}),
        "library_name": "videores",
        "pipeline_tag": TASK,
        "tags": [TASK, "videores"],
        "model-index": [{"name": record["name"], "results": results}],
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _format_requirements(record):
    lines = ["It needs videores, and for `hub:` names its extra `hub`."]
    if is_import_path(record["network"]):
        part = record["own_parts"].get("model.name")
        package = (part and part["package"]) or record["network"].partition(".")[0]
        lines.append(
            f"The network `{record['network']}` is not in videores and not in this file: install the package "
            f"`{package}`, or put its folder on PYTHONPATH. Loading imports it, which runs its code."
        )
    return " ".join(lines)


def _format_row(result: Result):
    clip = "" if result["clip_top1"] is None else f"{result['clip_top1']:.1f}"
    bad = f", {result['unreadable']} unreadable count as wrong" if result["unreadable"] else ""
    precision = "" if result["precision"] == "fp32" else f" in {result['precision']}"
    return (
        f"`{result['protocol']}`{precision}",
        clip,
        f"{result['video_top1']:.1f}",
        format_interval(result),
        f"{result['mean_class_top1']:.1f}",
        format_floor(result["floors"]),
        f"{result['expected']}{bad}",
    )


def format_floor(floors: ComparedFloors | None) -> str:
    """Format the best floor, marked where the interval is not above it."""
    if floors is None:
        return "unknown"
    return f"{floors[floors['best']]:.1f} ({floors['best']}){'' if floors['above'] else ' not beaten'}"


def _format_marks(results):
    if all(result["floors"] and result["floors"]["above"] for result in results):
        return ""
    return "**A result whose floor is not beaten is no evidence that the network learnt.**\n"


def _format_training(record):
    rows = {
        "command": f"`{record['command']}`",
        "commit of videores": format_commit(record),
        "hash of the code": record["code"] or "not recorded",
        "seed, epochs": f"{record['seed']}, {record['epochs']}",
        "started from": f"`{record['weights']}`" if record["weights"] else "random weights",
        "test list, hash": record["results"][0]["list_hash"],
        "machine": f"{record['machine']}, threads: {record['threads']}",
        "versions": ", ".join(f"{name} {value}" for name, value in record["versions"].items()),
        "time": f"{record['started']} to {record['ended']}",
    }
    return format_markdown_table(("", ""), rows.items())


def _format_terms(record, license):
    said = f"License of the weights: {license}." if license else "No license was stated for these weights."
    start = f" They started from `{record['weights']}`, whose terms hold, too." if record["weights"] else ""
    return f"{said} They were trained on {record['data']}: its terms hold for what is derived from it.{start}"


def _list_changes(config):
    return build_config(config, "config").model_dump(mode="json", exclude_defaults=True)


def _format_code(names: Sequence[str]) -> str:
    """Format names as YAML in a block, where no character of theirs is markup."""
    return f"```yaml\n{yaml.safe_dump(list(names), allow_unicode=True)}```"
