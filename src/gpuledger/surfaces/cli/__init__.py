"""The command line. Each verb is one module of this folder with a click command called `command`."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import click

from gpuledger import __version__
from gpuledger.errors import GpuledgerError
from gpuledger.surfaces.cli._context import FORMATS, Context


class Verbs(click.Group):
    """Find commands by file name, so that a verb is one file and `gpuledger VERB` imports no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return all verbs, sorted."""
        names = (info.name for info in iter_modules([str(Path(__file__).parent)]))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)  # noqa: S101  # a module of ours without `command` is a defect
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb. A reader that goes away, such as `head`, is no failure."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # else Python complains as it exits
            return 0
        return code


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--ledger",
    "location",
    envvar="GPULEDGER_LEDGER",
    metavar="DIR|URL",
    help="Where the ledger is (default ./ledger).",
)
@click.option(
    "--config", "config_path", metavar="FILE", help="Configuration (default gpuledger.toml, if there is one)."
)
@click.option(
    "--format", "output", type=click.Choice(FORMATS), help="Default: table on a terminal, json otherwise."
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="gpuledger")
@click.pass_context
def cli(
    ctx: click.Context, location: str | None, config_path: str | None, output: str | None, *, debug: bool
) -> None:
    """Say which job every AI dollar paid for, and tie it to the bill.

    Data goes to standard output, everything else to standard error. Exit codes: 0 fine, 1 findings,
    2 usage or configuration, 3 failure.
    """
    ctx.obj = Context(location=location, config_path=config_path, output=output, debug=debug)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: errors become a message and their exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(arguments, prog_name="gpuledger", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except Exception as error:  # noqa: BLE001  # nobody should have to read a traceback who didn't ask for one
        if "--debug" in arguments:
            traceback.print_exc()
        else:
            click.echo(f"Error: {_explained(error)}", err=True)
        code = error.exit_code if isinstance(error, GpuledgerError) else 3
    sys.exit(code if isinstance(code, int) else 0)


def _explained(error: Exception) -> str:
    """Say what failed and what to do; whatever is neither ours nor the file system's is a defect of gpuledger."""
    if isinstance(error, GpuledgerError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error)).lower()}\nHint: Check the path, its permissions and the space left."
    if type(error).__name__ == "OutOfMemoryException":
        return "the engine needs more memory than it may take\nHint: Raise memory_limit in the [ledger] section of gpuledger.toml."
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}\nHint: This is a defect: please report it with the output of --debug."
