"""Texts for tables and terminals: one line, of characters that can be printed."""


def one_line(error):
    """Text of an error without line breaks."""
    return " ".join(str(error).split())


def escaped(text):
    r"""Text with characters that cannot be printed in the form of Python: ``\n``, or ``\udce9`` for a byte E9.

    Names of files may have any byte but 0 and ``/``. Bytes that are not UTF-8 can be written into no file of text, a
    line break would split a row, and control characters would command the terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
