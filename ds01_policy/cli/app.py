"""The commands and their options, as typer sees them.

Owns names, help texts and the order of commands; each body is one call into cli/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ds01_policy import __version__
from ds01_policy.cli.options import Options

app = typer.Typer(
    help="Warns, stops and removes idle GPU containers on shared servers; never work that is going on.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001  as typer calls it
    if wanted:
        typer.echo(f"ds01-policy {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Directory of policy files.", metavar="DIR")] = None,
    replay: Annotated[Path | None, typer.Option(help="Read a recording, not this host.", metavar="DIR")] = None,
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Hand the global options on."""
    del version
    context.obj = Options(config, replay, verbose)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RuleId = Annotated[str | None, typer.Option("--rule", help="Only this rule.", metavar="ID")]


@app.command()
def preview(
    context: typer.Context,
    *,
    rule: RuleId = None,
    all_: Annotated[bool, typer.Option("--all", help="Also containers nothing hits.")] = False,
    json: Json = False,
) -> None:
    """Show what each rule would do now, to whom, why and when. Changes nothing."""
    from ds01_policy.cli.deciding import preview as run

    run(context.obj, rule=rule, all_=all_, json=json)


@app.command()
def evaluate(
    context: typer.Context,
    *,
    mode: Annotated[
        Literal["observe", "warn", "enforce"] | None, typer.Option(help="Weaken the mode for this run.")
    ] = None,
    json: Json = False,
) -> None:
    """Run one tick: observe, decide, act as far as the mode goes, record. What the timer runs."""
    from ds01_policy.cli.deciding import evaluate as run

    run(context.obj, mode=mode, json=json)


@app.command()
def explain(
    context: typer.Context,
    container: Annotated[str, typer.Argument(help="Name, or the first characters of its id.")],
    *,
    at: Annotated[
        str | None, typer.Option(help="What was decided by then: a time (UTC), or like `2h ago`.", metavar="TIME")
    ] = None,
    json: Json = False,
) -> None:
    """Say why it is (not) stopped, when it will be, and what to do. Then each rule with what was measured."""
    container = container.removeprefix("/")  # as `docker inspect` writes names
    if at is not None:
        from ds01_policy.cli.looking_back import explain_past

        explain_past(context.obj, container, at, json=json)
        return
    from ds01_policy.cli.deciding import explain as run

    run(context.obj, container, json=json)


@app.command()
def check(
    context: typer.Context,
    *,
    live: Annotated[bool, typer.Option("--live", help="Also ask Docker and Prometheus.")] = False,
    form: Annotated[
        Literal["text", "github", "json"], typer.Option("--format", help="How findings are written.")
    ] = "text",
    json: Json = False,
) -> None:
    """Load and verify configuration and rules."""
    from ds01_policy.cli.configuring import check as run

    run(context.obj, live=live, form="json" if json else form)


@app.command("test")
def rule_tests(
    context: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders of tests.", metavar="[PATH]...")] = None,
    *,
    json: Json = False,
) -> None:
    """Run rule tests: those beside the rules, or those in the given files and folders."""
    from ds01_policy.cli.testing import test as run

    run(context.obj, paths or [], json=json)


@app.command()
def doctor(context: typer.Context, *, json: Json = False) -> None:
    """Examine this host: is all there that a tick needs, and what to do where not. Changes nothing."""
    from ds01_policy.cli.examining import doctor as run

    run(context.obj, json=json)


@app.command()
def selftest(
    context: typer.Context,
    *,
    gpu: Annotated[
        str | None, typer.Option(help="Give it this GPU (UUID or index), not one that is free for sure.", metavar="GPU")
    ] = None,
    no_gpu: Annotated[bool, typer.Option("--no-gpu", help="Do without a GPU.")] = False,
    image: Annotated[
        str | None, typer.Option(help="Use this image, which has `sleep`, not one made for it.", metavar="REF")
    ] = None,
    timeout: Annotated[str, typer.Option(help="For all of it.", metavar="TIME")] = "2m",
    json: Json = False,
) -> None:
    """Prove warn, stop, remove and epilog on this host with a throwaway container. Touches nothing else."""
    from ds01_policy.cli.selftesting import run

    run(context.obj, gpu=gpu, no_gpu=no_gpu, image=image, timeout=timeout, json=json)


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where to put the files.", metavar="DIR")],
    *,
    from_limits: Annotated[
        Path | None, typer.Option(help="Bring an older resource-limits.yaml along.", metavar="FILE")
    ] = None,
) -> None:
    """Copy the shipped configuration and rules out, to be edited."""
    if from_limits is not None:
        from ds01_policy.cli.bringing import init_from

        init_from(directory, from_limits)
        return
    from ds01_policy.cli.configuring import init as run

    run(directory)


Root = Annotated[Path | None, typer.Option(help="Write below this folder, to build a package.", metavar="DIR")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.command()
def install(
    context: typer.Context,
    *,
    root: Root = None,
    dry_run: DryRun = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Only files: enable and start nothing.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Reload systemd even where that takes GPUs from containers.")
    ] = False,
) -> None:
    """Put this version on this host as a service: first install, upgrade and repair. As root."""
    from ds01_policy.cli.installing import Asked
    from ds01_policy.cli.installing import install as run

    run(context.obj, Asked(root, dry_run, not no_start, reload))


@app.command()
def uninstall(context: typer.Context, *, root: Root = None, dry_run: DryRun = False) -> None:
    """Take the service off this host. Policy, state and program stay. As root."""
    from ds01_policy.cli.installing import Asked
    from ds01_policy.cli.installing import uninstall as run

    run(context.obj, Asked(root, dry_run))


@app.command()
def schema(
    name: Annotated[str, typer.Argument(help="settings, signals, limits, identity, exemptions, rules or tests.")],
) -> None:
    """Print the JSON Schema of a file, for editors."""
    from ds01_policy.cli.configuring import schema as run

    run(name)


@app.command()
def audit(  # noqa: PLR0913  one argument an option
    context: typer.Context,
    *,
    container: Annotated[str | None, typer.Option(help="Name or id.")] = None,
    owner: Annotated[str | None, typer.Option(help="User.")] = None,
    rule: RuleId = None,
    action: Annotated[
        Literal["warn", "stop", "remove", "epilog"] | None, typer.Option(help="Only this action.")
    ] = None,
    status: Annotated[
        Literal["done", "noop", "failed", "stale", "withheld"] | None, typer.Option(help="Only what became this.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this time on (UTC), or like `2h ago`.", metavar="TIME")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time.", metavar="TIME")] = None,
    json: Json = False,
) -> None:
    """Show past decisions, and why."""
    from ds01_policy.cli.looking_back import Asked
    from ds01_policy.cli.looking_back import audit as run

    run(context.obj, Asked(container, owner, rule, action, status, since, until), json=json)


@app.command()
def record(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.", metavar="DIR")],
    *,
    anonymise: Annotated[
        bool, typer.Option("--anonymise", "--anonymize", help="Replace every name and id, the same one alike.")
    ] = False,
) -> None:
    """Capture this host's answers, to be read again with --replay."""
    from ds01_policy.cli.recording import record as run

    run(context.obj, directory, anonymise=anonymise)


@app.command()
def epilog(
    context: typer.Context,
    *,
    container: Annotated[str | None, typer.Option(help="An ended container: its name or id.", metavar="ID")] = None,
    gpu: Annotated[str | None, typer.Option(help="Only look at this GPU.", metavar="UUID")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and tell, end and reset nothing.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Note that you have seen to an unfit GPU.")] = False,
    json: Json = False,
) -> None:
    """Check what an ended container has left on its GPUs."""
    from ds01_policy.cli.by_hand import epilog as run

    run(context.obj, container=container, gpu=gpu, dry_run=dry_run, clear=clear, json=json)


@app.command()
def watch(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="See to what is owed now, and end.")] = False,
) -> None:
    """Check the GPUs of containers as they end, by whichever hand."""
    from ds01_policy.cli.watching import watch as run

    run(context.obj, once=once)


@app.command("reset-gpus", hidden=True)
def reset_gpus(context: typer.Context) -> None:
    """Reset the GPUs whose epilog might not, if nothing speaks against it. What ds01-policy-reset.service runs."""
    from ds01_policy.cli.resetting import reset_gpus as run

    run(context.obj)
