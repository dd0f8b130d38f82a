"""The command `dcae`: which module each of its commands is in, and how errors end."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from dcae import __version__
from dcae.errors import DCAEError, lacks_memory, one_line
from dcae.lazy import LazyGroup

COMMANDS = {
    "decode": "dcae.codec.cli:decode",
    "downscale": "dcae.sr.cli:downscale",
    "encode": "dcae.codec.cli:encode",
    "eval": "dcae.eval.cli:evaluate",
    "export": "dcae.train.cli:export",
    "export-web": "dcae.serve.cli:export_web",
    "import-checkpoint": "dcae.models.cli:import_checkpoint",
    "import-upscaler": "dcae.sr.cli:import_upscaler",
    "info": "dcae.codec.cli:info",
    "models": "dcae.models.cli:models",
    "serve": "dcae.serve.cli:serve",
    "train": "dcae.train.cli:train",
    "upscale": "dcae.sr.cli:upscale",
}
"""Place of each command, `module:name`."""


class _Group(LazyGroup):
    """Errors of our family end in one line on stderr and exit code 1, mistyped command lines likewise and in 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DCAEError as error:
            click.echo(f"dcae: {one_line(str(error))}", err=True)
        except click.UsageError as error:
            click.echo(f"dcae: {error.format_message()} (see dcae --help)", err=True)
            ctx.exit(2)
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            click.echo("dcae: not enough memory; a smaller picture or batch needs less", err=True)
        except BrokenPipeError:
            # The reader of our stdout has gone; keep the interpreter from complaining when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:  # of a file or folder, where no command had more to say
            click.echo(f"dcae: {error}", err=True)
        ctx.exit(1)


@click.group(cls=_Group, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dcae")
def main() -> None:
    """Learned image compression: pictures to .dcae files and back; super-resolution beside it."""
