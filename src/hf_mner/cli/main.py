"""`hf-mner`: all commands of the package; each imports what it needs when it is run."""

from __future__ import annotations

import sys

import typer

from .annotate import annotate
from .convert import app as convert_app
from .data import app as data_app
from .demo import demo
from .evaluate import evaluate
from .inspect import app as inspect_app
from .interchange import export_posts, import_posts
from .knowledge import app as knowledge_app
from .predict import predict
from .publish import card, compact, push
from .report import report
from .reproduce import reproduce
from .sweep import sweep
from .train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Named entity recognition on posts that come with an image.",
)
app.command()(predict)
app.command()(annotate)
app.command()(train)
app.command()(sweep)
app.command()(reproduce)
app.command()(evaluate)
app.command()(report)
app.command()(demo)
app.command()(compact)
app.command()(card)
app.command()(push)
app.command("export")(export_posts)
app.command("import")(import_posts)
app.add_typer(data_app, name="data")
app.add_typer(knowledge_app, name="knowledge")
app.add_typer(inspect_app, name="inspect")
app.add_typer(convert_app, name="convert")


def run() -> None:
    """Run the command line; what the user can mend is one line on standard error and exit code 1.

    An extra that is not installed can be mended: our texts name the `pip install`. Any other import that fails is a
    bug and keeps its traceback.
    """
    try:
        app()
    except (ValueError, OSError) as error:
        fail(error)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        fail(error)


def fail(error: Exception) -> None:
    """Print the error and exit."""
    typer.echo(f"hf-mner: {error}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    run()
