"""What a run would take."""

from pathlib import Path
from typing import Annotated

from amae.commands import parameters as p
from amae.runtime.errors import InputError


def plan(
    targets: Annotated[list[str] | None, p.meaning("targets, as after snakemake; by default everything")] = None,
    /,
    *,
    config: Annotated[list[str] | None, p.meaning("settings, as after snakemake --config: preset=paper")] = None,
    configfile: Annotated[list[Path] | None, p.meaning("files of settings, as after snakemake --configfile")] = None,
    cores: Annotated[int, p.whole(1, "cores, as snakemake would get them")] = 1,
    gpus: p.Gpus = 1,
) -> None:
    """Print what a run of the workflow would take: jobs, hours, gigabytes, downloads, files to get by hand.

    Nothing is run. To be called in the folder of the workflow.
    """
    from snakemake.cli import parse_config

    from amae.plan.check import check_file
    from amae.plan.outlook import planned, report

    if not Path("workflow/Snakefile").is_file():
        raise InputError("workflow/Snakefile: no such file; call this command in the folder of the repository")
    for file in ["config/config.yaml", *(configfile or [])]:
        check_file(file)  # Snakemake, which reads it first, names neither file nor line
    try:
        settings = parse_config(config or [])
    except ValueError as error:
        form = "preset=paper, no space beside =, or of a key in a key 'overrides={modules: {epochs: 3}}'"
        raise InputError(f"--config: found {' '.join(config)}, expected the form {form} ({error})") from None
    merged, jobs = planned(targets or [], settings, configfile or [], cores, gpus)
    for line in report(merged, jobs, gpus):
        print(line)
