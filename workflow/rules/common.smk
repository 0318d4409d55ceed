"""The configuration, the paths of results, and the functions that other rules share; the answers come from amae.plan."""

import shlex
from re import escape

from amae.plan import InputError, check, compared, datasets, demand, jobs, paths, stage2, variants, watched


def refusing(function, *given, **named):
    """What a function of amae.plan answers; its InputError ends Snakemake with one line.

    No WorkflowError: Snakemake would print the lines of this file, and overlook it where the job's output is there.
    """
    try:
        return function(*given, **named)
    except InputError as error:
        raise SystemExit(f"error: {check.with_source(error, workflow.configfiles)}") from None


config.update(check.typed(config))
refusing(check.check, config, workflow.configfiles)
refusing(jobs.check_results, config)
refusing(datasets.check_dataset, config, config["dataset"])
refusing(stage2.note_encoders, config)

RESULTS = paths.results_of(config)
DATA = paths.data_folder(config, "{dataset}")  # everything of one data set
RUN = paths.run_folder(config, "{dataset}", "{variant}", "{seed}")  # everything of one replicate
DATA_LOGS = f"{DATA}/logs"
RUN_LOGS = f"{DATA_LOGS}/{{variant}}seed{{seed}}"
CORES = jobs.cores_of(config)


def any_of(names):
    """A pattern that matches these names and no others; nothing, where there are none."""
    return "|".join(map(escape, names)) or "(?!)"


wildcard_constraints:
    dataset=any_of(config["datasets"]),
    variant=any_of(map(paths.variant_folder, variants.all_variants(config))),
    seed=r"\d+",
    shard=r"\d+",
    module="[AB]",
    method=any_of(compared.all_methods()),
    protocol="[NY]",


def plan(function, *names, **given):
    """An input or param function: what a function of amae.plan answers for the wildcards of these names.

    The wildcard variant is a folder, and the plan is given the variant's name. `given` goes to the function as it is.
    """

    def answer(wildcards):
        known = {name: value.rstrip("/") for name, value in wildcards.items()}
        return refusing(function, config, *(known[name] for name in names), **given)

    return answer


def unless_touched(file):
    """An input function: a file, which counts by its content (`content_of`) and not by its time if it is a person's."""

    def path(wildcards):
        found = file(wildcards)
        return ancient(found) if found and not paths.is_made(config, found) else found

    return path


def content_of(file):
    """A param function: the hash of a person's file."""

    def content(wildcards):
        return refusing(watched.content_of, config, file(wildcards))

    return content


def made(stage, file):
    """An input function: a file that `stage` makes, in this variant's run or in the main run, which it may share."""
    owner = plan(variants.owner, "variant", stage=stage)

    def path(wildcards):
        return expand(file, **{**wildcards, "variant": paths.variant_folder(owner(wildcards))})

    return path


def optional(*names):
    """A param function: inputs as options of the same name, where the job has them."""

    def words(wildcards, input):
        given = {f"--{name.replace('_', '-')}": str(input[name]) for name in names if input[name]}
        return shlex.join(word for pair in given.items() for word in pair)

    return words


def of_stage2(*names):
    """An input function: these files of the replicate, where it has a stage 2."""
    return plan(stage2.files, "dataset", "variant", "seed", names=names)


def needs(rule):
    """Resources of a rule's jobs; memory (MB) and time (minutes) grow with the images and with each attempt."""
    return demand.resources_of(config, rule, refusing)


def settings_of(section):
    """A param function: one section of the variant's settings, as options."""
    return plan(variants.options_of, "variant", section=section)


def quoted(key):
    """A param function: one key of the data set's configuration, quoted for the shell."""
    return plan(datasets.quoted, "dataset", key=key)


def code(command):
    """Fingerprint of all code behind a command, so that an edit reruns exactly the rules it touches."""
    return refusing(jobs.code_of, command)


def shown(file, caption, category, figure, pages=()):
    """A file of the report, or the `pages` of a folder; `caption`: a file of workflow/report; `figure`: its name."""
    run = {"run": "{variant}seed{seed}"} if "{seed}" in file else {}
    labels = {"data set": "{dataset}", **run, "figure": figure}
    patterns = {"patterns": pages} if pages else {}
    return report(file, caption=f"../report/{caption}.rst", category=category, labels=labels, **patterns)


def log_of(job, folder=RUN_LOGS):
    """What a job prints; `job` is the rule's name, with the wildcards that the folder does not have."""
    return f"{folder}/{job}.log"


def benchmark_of(job, folder=RUN_LOGS):
    """Time and memory of a job, beside its log."""
    return f"{folder}/{job}.benchmark.tsv"


# Inputs that many rules share.
IMAGES = dict(images=f"{DATA}/images.npy", index=f"{DATA}/images.csv")
PACKED = dict(manifest=made("manifest", f"{DATA}/{{variant}}manifest.csv"), **IMAGES)
TESTED = dict(manifest=PACKED["manifest"], index=IMAGES["index"])
WEIGHTS = made("weights", f"{DATA}/{{variant}}mae.safetensors")
SCORES = plan(paths.of_every_seed, "dataset", "variant", file="scores.csv")
BOXES = plan(datasets.boxes_table, "dataset")
