"""The commands, their options, and what they share: version, errors, Ctrl-C."""

from __future__ import annotations

from typing import Any

import click

import densefield
from densefield.cli.bench import bench
from densefield.cli.demo import demo
from densefield.cli.fit import fit
from densefield.cli.refine import refine

__all__ = ["app"]

_STOPPED = 130  # what shells report for a program ended by Ctrl-C

# What a command may raise for input that it cannot work on: told in one line, without a traceback.
_EXPECTED_ERRORS = (OSError, TypeError, ValueError, RuntimeError, MemoryError)


class _Application(click.Group):
    """A group of commands that ends with one line for an error, and with 130 for Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("stopped; no file was left half written", err=True)
            ctx.exit(_STOPPED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except _EXPECTED_ERRORS as error:
            raise click.ClickException(str(error) or type(error).__name__) from error


@click.group(cls=_Application, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version=densefield.__version__, prog_name="densefield")
def app() -> None:
    """Refine a network's segmentation with a dense CRF: labels that follow the outlines.

    Start with `densefield demo`.
    """


@app.command()
def info() -> None:
    """Print version, SIMD level, threads, and the GPU or why there is none."""
    found = densefield.system_info()
    available = ", ".join(found["simd_available"])
    lines = {
        "version": found["version"],
        "compiler": found["compiler"],
        "SIMD": f"{found['simd']} (available: {available})",
        "threads": f"{found['num_threads']} (from {found['num_threads_source']})",
        "CUDA": "yes" if found["cuda"] else f"no: {found['cuda_reason']}",
    }
    for name, value in lines.items():
        click.echo(f"{name:<10}{value}")


app.add_command(bench)
app.add_command(demo)
app.add_command(fit)
app.add_command(refine)
