"""Rows of times to ratios, verdicts, a Markdown table and a JSON file."""

import json
from dataclasses import dataclass, fields
from statistics import median

from benchmarks.contenders import FLOOR, FRAMES, OURS, PREPARED, SHARDS, Contender
from benchmarks.videos import LARGE
from videores.runtime import files, machine
from videores.runtime.environment import collect_environment, format_utc_now

COLUMNS = {
    "loader": ("ms a clip", "against pytorchvideo's faster decoder"),
    "test": ("ms a video", "against the faster per-view loading"),
    "probe": ("ms a file", "against others"),
}

THREADS = {"one": "one thread on one core", "all": "one torch thread, decoders with as many as they start"}
SAID = ("torch", "av", "decord", "decord2", "pytorchvideo")  # packages in the table's caption


@dataclass
class Row:
    videos: str
    files: list[str]
    units: int  # clips or videos that a round makes
    contenders: list[Contender]

    def ms(self, name):
        return next((c.ms for c in self.contenders if c.name == name), None)

    def faster(self, contender):
        """How many times as fast as the fastest peer; None where there is none."""
        peers = [c.ms for c in self.contenders if c.peer and c.ms]
        return min(peers) / contender.ms if peers and contender.ms else None

    def of_floor(self, contender):
        """How many times the time of decoding alone."""
        return self.over(contender, FLOOR)

    def over(self, contender, name):
        """How many times the time of another contender."""
        return contender.ms / self.ms(name) if contender.ms and self.ms(name) else None


@dataclass(frozen=True)
class Target:
    """At least `factor` times as fast as the fastest peer, or at most `factor` times the time of one of ours."""

    factor: float
    over: str | None = None

    def __str__(self):
        return f"at most {self.factor:g}x {self.over}" if self.over else f"at least {self.factor:g}x"

    def reached(self, row, contender):
        got = row.over(contender, self.over) if self.over else row.faster(contender)
        return got is not None and (got <= self.factor if self.over else got >= self.factor)


def aims(item, frames):
    """At most so many times the time of decoding alone, for a training item and for its frames."""
    return {OURS: Target(item, over=FLOOR), FRAMES: Target(frames, over=FLOOR)}


TARGETS = {  # measurement -> row -> contender -> target
    "loader": {
        "mpeg4_320x240_25fps_audio.avi": {**aims(0.85, 0.75), PREPARED: Target(8), SHARDS: Target(1, over=OURS)},
        "ut-interaction-6": {**aims(1.3, 0.9), SHARDS: Target(1, over=OURS)},
        "h264_340x256_28fps.mp4": {**aims(0.85, 0.75), PREPARED: Target(12)},
        "h264_340x256_30fps.mp4": {**aims(0.85, 0.75), PREPARED: Target(12)},
        LARGE: {OURS: Target(8)},
    },
    "test": {
        "mpeg4_320x240_25fps_audio.avi": {OURS: Target(15), PREPARED: Target(25)},
        "h264_340x256_28fps.mp4": {OURS: Target(14), PREPARED: Target(25)},
    },
    "probe": {
        "mpeg4_320x240_25fps_audio.avi": {OURS: Target(2.5, over=FLOOR)},
        "h264_340x256_28fps.mp4": {OURS: Target(3, over=FLOOR)},
        "h264_340x256_30fps.mp4": {OURS: Target(3, over=FLOOR)},
    },
}


def save(folder, name, settings, rows):
    about = {"measurement": name, **settings, "date": format_utc_now(), **environment()}
    how = f"`{about['protocol']}`, {THREADS[about['cores']]}, median of {about['rounds']} rounds, seed {about['seed']}"
    record = {**about, "rows": [to_json(name, row) for row in rows]}
    text = "\n\n".join([f"{how}, {where(about)}.", table(name, rows), *totals(rows), *disturbed(rows)])
    write(folder, f"{text}\n", record)


def write(folder, text, record):
    """table.md and results.json; prints the table."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "table.md", text)
    files.write_text(folder / "results.json", json.dumps(record, indent=1) + "\n")
    print(f"\n{text}\nwrote {folder / 'table.md'} and {folder / 'results.json'}")


def environment():
    about = {"cpu_model": machine.read_cpu_model(), "cores_usable": machine.count_cpus()}
    return {**collect_environment(), **about}


def where(about):
    """Machine, commit, day and versions, for a table's caption."""
    git = about["git"] or {"commit": "unknown", "dirty": False}
    commit = git["commit"][:7] + (" with changes" if git["dirty"] else "")
    packages = ", ".join(f"{name} {about['versions'][name]}" for name in SAID if name in about["versions"])
    return f"{about['cpu_model']} ({about['cores_usable']} cores), commit {commit}, {about['date'][:10]}; {packages}"


def table(name, rows):
    unit, against = COLUMNS[name]
    lines = [
        f"| videos | loader | {unit} | elapsed | {against} | of decoding alone | wrong frames | target |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    return "\n".join(lines + [line(name, row, contender) for row in rows for contender in row.contenders])


def line(name, row, contender):
    if contender.failed:
        return f"| {row.videos} | {contender.name} | fails: {cell(contender.failed)} | | | | | |"
    wrong = "" if contender.wrong is None else f"{contender.wrong} of {contender.checked}"
    times = f"{contender.ms:.1f} | {median(contender.elapsed_ms):.1f}"
    ratios = f"{times_sign(row.faster(contender))} | {times_sign(row.of_floor(contender))}"
    return f"| {row.videos} | {contender.name} | {times} | {ratios} | {wrong} | {verdict(name, row, contender)} |"


def cell(text):
    return text.replace("|", "\\|")


def times_sign(value):
    return "" if value is None else f"{value:.2f}x"


def verdict(name, row, contender):
    target = target_of(name, row, contender)
    return "" if target is None else f"{target}: {'' if target.reached(row, contender) else '**not** '}reached"


def target_of(name, row, contender):
    return TARGETS[name].get(row.videos, {}).get(contender.name)


def totals(rows):
    ours = [c for row in rows for c in row.contenders if c.checked and not c.peer]
    wrong, checked = sum(c.wrong for c in ours), sum(c.checked for c in ours)
    if ours:
        judged = f"target 0: {'**not** ' * (wrong > 0)}reached"
        yield f"Wrong frames of videores over all rows: {wrong} of {checked} ({judged})."


def disturbed(rows):
    """A warning where loaders waited for the processor: one thread on an idle core takes as long as it computes."""
    waits = [median(c.elapsed_ms) / c.ms for row in rows for c in row.contenders if c.ms]
    if max(waits) > 1.2:
        yield f"Other processes were running: elapsed times are up to {max(waits):.1f}x the processor times."


def to_json(name, row):
    return {**values(row), "contenders": [contender_json(name, row, contender) for contender in row.contenders]}


def contender_json(name, row, contender):
    target = target_of(name, row, contender)
    derived = {"ms": contender.ms, "times_fastest_peer": row.faster(contender), "of_floor": row.of_floor(contender)}
    judged = {"target": str(target), "reached": target.reached(row, contender)} if target else {}
    return {**values(contender), **derived, **judged}


def values(of):
    return {field.name: getattr(of, field.name) for field in fields(of) if field.name not in ("contenders", "read")}
