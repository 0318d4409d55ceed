"""What a run would take: jobs by rule, hours, gigabytes, downloads, and files that a person has to get."""

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amae.plan import demand
from amae.plan.paths import results_of
from amae.plan.splits import published_set
from amae.plan.variants import settings_of
from amae.runtime.errors import InputError
from amae.settings import SplitSettings
from amae.sources.catalogue import Source, catalogue
from amae.sources.published import published_table

LUNGS = 256**2 * 9 / 8  # bytes of an image to find lungs in, with its mask
TESTED = 2_000  # images, where the splits do not state how many; the test sets of the benchmarks have about as many
SHORT = 0.05  # hours: rules that take less, all jobs together, share a line
COMPARATOR = 50e6  # bytes of a trained comparator, those of a ResNet-18


@dataclass(frozen=True)
class Job:
    """A job of a plan: its rule, wildcards, and the cores that it gets."""

    rule: str
    wildcards: dict[str, str]
    threads: int


def planned(
    targets: Sequence[str], given: dict[str, Any], configfiles: Sequence[Path], cores: int, gpus: int
) -> tuple[dict[str, Any], list[Job]]:
    """The configuration as Snakemake merges it, and the jobs that it would run; nothing is run.

    Raises InputError for what Snakemake, or the check of the configuration, refuses.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import MissingRuleException, WorkflowError
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=cores, resources={"gpu": gpus}),
                config_settings=ConfigSettings(config=given, configfiles=configfiles),
            )
            dag = workflow.dag(DAGSettings(targets=set(targets)))
            dag.execute_workflow(executor="dryrun")
            made = workflow._workflow
            jobs = [
                Job(job.rule.name, {key: str(value).rstrip("/") for key, value in job.wildcards_dict.items()}, threads)
                for job in made.dag.needrun_jobs(exclude_finished=False)
                if job.rule.shellcmd and (threads := job.threads)
            ]
            return dict(made.config), jobs
    except SystemExit as error:  # the workflow's own refusal
        raise InputError(str(error).removeprefix("error: ")) from None
    except WorkflowError as error:
        raise InputError(str(error)) from None
    except MissingRuleException as error:
        raise InputError(f"{str(error).partition(' (')[0]}; snakemake --list-target-rules lists the targets") from None


def report(config: dict[str, Any], jobs: Sequence[Job], gpus: int) -> Iterator[str]:
    """The plan in lines, at most a page of them."""
    names = sorted({job.wildcards["dataset"] for job in jobs if "dataset" in job.wildcards}) or [config["dataset"]]
    named = ", ".join(f"{name} ({config['datasets'][name]['kind']})" for name in names)
    yield f"data set{'s' * (len(names) > 1)} {named}, preset {config['preset']}, in {results_of(config)}"
    if not jobs:
        yield "nothing to do: every file is there"
        return
    if not gpus:
        config = config | {"device": "cpu"}
    counts, hours = Counter(job.rule for job in jobs), Counter()
    for job in jobs:
        hours[job.rule] += demand.hours_of(config, job.rule, job.wildcards, job.threads)
    yield f"{'rule':28}{'jobs':>8}{'hours':>10}"
    long = sorted((rule for rule in counts if hours[rule] >= SHORT), key=lambda rule: -hours[rule])
    for rule in long:
        yield f"{rule:28}{counts[rule]:8}{_hours(hours[rule]):>10}"
    if short := counts.keys() - set(long):
        name, count = f"{len(short)} {'other ' * bool(long)}rules", sum(counts[rule] for rule in short)
        yield f"{name:28}{count:8}{_hours(sum(hours[rule] for rule in short)):>10}"
    yield f"{'all, one after another':28}{len(jobs):8}{_hours(hours.total()):>10}"
    speed = f"{demand.GPU:,.0f} GFLOP/s on a GPU" if config["device"] != "cpu" else f"{demand.CORE:.0f} GFLOP/s a core"
    yield f"hours are upper estimates, at {speed} (assumed); the start of each job, 5 to 20 seconds, comes on top"
    most = max(demand.memory_of(config, job.rule, job.wildcards.get("dataset"), 1) for job in jobs)
    yield f"memory: up to {most / 1e3:.0f} GB for a job; disk: about {_disk(config, jobs) / 1e9:.1f} GB of results"
    yield from _files(config, jobs)


def _files(config: dict[str, Any], jobs: Sequence[Job]) -> Iterator[str]:
    """What is downloaded, and what a person has to get."""
    fetched, by_hand = _sources(jobs)
    encoders = [job.wildcards["encoder"] for job in jobs if job.rule == "fetch_encoder"]
    known, unknown = sum(row.size or 0 for row in fetched), sum(not row.size for row in fetched) + len(encoders)
    if fetched or encoders:
        more = f", and {unknown} files of a size that is not published" if unknown else ""
        yield f"to download: {known / 1e9:.2f} GB{more}"
        large = sorted({row.name: row for row in fetched if not row.size or row.size > 1e7}.items())
        yield from (f"  {name}{_size(row) or ', size not published'}: {row.note}" for name, row in large)
        yield from (f"  timm:{name}" for name in encoders)
    else:
        yield "to download: nothing"
    lacking = list(_lacking(config, jobs))
    yield from lacking
    if not by_hand and not lacking:
        yield "by hand: nothing"
    for dataset, rows in by_hand.items():
        folder = f"{results_of(config)}/sources/{dataset}"
        opened = any(row.dataset == dataset and row.note.startswith("images:") for row in fetched)
        yield f"by hand, unless {'those above suffice or ' * opened}they are in {folder} already, one of:"
        yield from (f"  {row.name}: {row.url}{_size(row)}; {row.access}; terms: {row.licence}" for row in rows)


def _lacking(config: dict[str, Any], jobs: Sequence[Job]) -> Iterator[str]:
    """What a published data set lacks in the folder that a person named, as its first job would report it."""
    for dataset in sorted({job.wildcards["dataset"] for job in jobs if job.rule == "list_source"}):
        about = config["datasets"][dataset]
        splits = SplitSettings(**about["splits"]) if about.get("splits") else None
        source = published_set(config, dataset, None if splits else about.get("anomaly_ratio"))
        try:
            if about["folder"]:
                with contextlib.redirect_stderr(io.StringIO()):
                    published_table(source, splits, every_ratio=True)
        except InputError as error:
            yield f"by hand, for data set {dataset}: {error}"


def _sources(jobs: Sequence[Job]) -> tuple[list[Source], dict[str, list[Source]]]:
    """Rows of the catalogue that the jobs fetch, and for each data set those that a person has to get."""
    fetched, by_hand = [], {}
    for job in sorted(jobs, key=lambda job: sorted(job.wildcards.items())):
        if job.rule == "fetch_source":
            rows = [row for row in catalogue() if row.dataset == job.wildcards["source"]]
            fetched += [row for row in rows if row.access == "open"]
            by_hand[job.wildcards["source"]] = [row for row in rows if row.access != "open"]
        if job.rule == "fetch_weights":
            fetched += [row for row in catalogue() if row.file == job.wildcards["file"]]
    return fetched, by_hand


def _size(row: Source) -> str:
    return f", {row.size / 1e9:.1f} GB" if row.size else ""


def _disk(config: dict[str, Any], jobs: Sequence[Job]) -> float:
    """Bytes of images, networks and maps that the jobs write; tables and pictures are small."""
    total = 0.0
    for job in jobs:
        sizes = settings_of(config, job.wildcards.get("variant", ""))["mae"]
        # a block of a transformer has 12 width² weights of 4 bytes
        network = 48 * (sizes.depth * sizes.width**2 + sizes.decoder_depth * sizes.decoder_width**2)
        dataset = job.wildcards.get("dataset")
        if job.rule == "convert_images":
            total += demand.images_of(config, job.rule, dataset) * (sizes.image_size**2 + LUNGS)
        elif job.rule in ("pretrain_mae", "import_weights", "train_module"):
            total += network
        elif job.rule == "export_model":
            total += 3 * network
        elif job.rule == "reconstruct_test":
            splits = config["datasets"][dataset].get("splits") or {}
            tested = splits.get("test_normal", 0) + splits.get("test_abnormal", 0) or TESTED
            total += tested * sizes.image_size**2 * 4  # two maps of 16 bits
        elif job.rule == "run_comparator":
            total += COMPARATOR
    return total


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.05 else "under 0.1"
