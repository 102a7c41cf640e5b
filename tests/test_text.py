"""Texts that are written into tables and to terminals."""

from stellarhml._text import escaped, one_line


def test_what_can_be_printed_stays():
    for text in ("", "night 1/star.fits", "étoile ☆ 恒星", '=1,"2"#3\\4'):
        assert escaped(text) == text


def test_what_cannot_is_escaped_to_one_line_of_utf_8():
    for code in [*range(32), 127, 0x85, 0x2028, 0x202E, *range(0xDC80, 0xDD00)]:
        text = escaped(f"a{chr(code)}b")
        assert text.isprintable()
        text.encode()
        assert text == f"a{ascii(chr(code))[1:-1]}b"


def test_an_error_of_many_lines_is_one():
    assert one_line(ValueError("one\n  two\r\nthree ")) == "one two three"
