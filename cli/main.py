"""The `featbank` command: one table of commands, each loaded when it runs."""

from __future__ import annotations

import click

from cli._lazy import LazyGroup

__all__ = ["COMMANDS", "main"]

# From a command's name to its module and the first line of its help, which are printed without
# importing the module.
COMMANDS = {
    "demo": (
        "cli.commands.demo",
        "Train, bank, fit and compare on real images, in about a minute.",
    ),
    "train": ("cli.commands.train", "Train a backbone on long-tailed images."),
    "extract": ("cli.commands.extract", "Write a trained backbone's frozen features into a bank."),
    "import": ("cli.commands.import_", "Make a bank of features that exist in files."),
    "info": ("cli.commands.info", "Show what a bank holds and where it came from."),
    "verify": (
        "cli.commands.verify",
        "Check every byte of a bank or a model; name what is damaged.",
    ),
    "export": (
        "cli.commands.export",
        "Write a bank's features, or a head with its network.",
    ),
    "fit": ("cli.commands.fit", "Fit heads on a bank, choose on val, evaluate and save them."),
    "evaluate": ("cli.commands.evaluate", "Evaluate saved heads on a bank."),
    "mistakes": (
        "cli.commands.mistakes",
        "Show what a saved head gets wrong: rows, classes, confusions.",
    ),
    "compare": (
        "cli.commands.compare",
        "Compare heads on banks: which checkpoint, which head, and is the difference real.",
    ),
    "predict": ("cli.commands.predict", "Label new images with a model, or a bank with a head."),
    "sweep": ("cli.commands.sweep", "Show accuracy over a head's parameter, and choose it."),
    "report": ("cli.commands.report", "Build the page of saved results anew; nothing is fitted."),
}


@click.group(cls=LazyGroup, commands_table=COMMANDS, context_settings={"max_content_width": 100})
@click.version_option(package_name="featbank")
def main() -> None:
    """Cache frozen features once, then fit long-tail classifiers on them in seconds.

    Start with `featbank demo`, or with your own images: train, extract, fit.
    """
