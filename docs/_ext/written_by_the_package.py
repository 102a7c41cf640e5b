"""Directives whose text the package itself has: the registry of flags, and the help of each command."""

from docutils import nodes
from docutils.parsers.rst import Directive


class Flags(Directive):
    """A table of all flags of a registry in :mod:`stellarhml.flags`."""

    required_arguments = 1

    def run(self):
        """Make the table."""
        from stellarhml import flags

        group = nodes.tgroup(cols=3)
        for width in (25, 8, 80):
            group += nodes.colspec(colwidth=width)
        head, body = nodes.thead(), nodes.tbody()
        head += _row(*(nodes.paragraph(text=text) for text in ("flag", "bit", "meaning")))
        for flag in getattr(flags, self.arguments[0]):
            name = nodes.paragraph("", "", nodes.literal(text=flag.name))
            body += _row(name, nodes.paragraph(text=str(int(flag))), nodes.paragraph(text=flag.meaning))
        group += [head, body]
        table = nodes.table("", group)
        return [table]


class CommandHelp(Directive):
    """What a command of `stellarhml` prints with `--help`; without an argument, the command itself."""

    optional_arguments = 1

    def run(self):
        """Make the block."""
        import contextlib
        import io
        import os

        from stellarhml.cli.main import main

        os.environ["COLUMNS"] = "100"
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([*self.arguments, "--help"])
        return [nodes.literal_block(text.getvalue(), text.getvalue(), language="none")]


def _row(*cells):
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", cell)
    return row


def setup(app):
    """Register the directives."""
    app.add_directive("flags", Flags)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
