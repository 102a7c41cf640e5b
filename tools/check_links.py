"""Check the links of built documentation without the internet.

Run: sphinx-build -W --keep-going docs docs/_build/html && python tools/check_links.py docs/_build/html

Every link to a page, a picture or a place within a page must lead somewhere; links that leave the documentation must
be https and well-formed. Exit code 1 if any is not.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.links += [attrs[key] for key in ("href", "src") if attrs.get(key)]


def main(root):
    """Print links that lead nowhere; return how many there are."""
    root = Path(root).resolve()
    pages = {path: _Page(path.read_text()) for path in root.rglob("*.html") if "_static" not in path.parts}
    if not pages:
        print(f"{root} has no pages; build the documentation first", file=sys.stderr)
        return 1
    wrong, checked = [], 0
    for path, page in pages.items():
        for link in page.links:
            checked += 1
            if reason := _why_wrong(urlsplit(link), path, pages, root):
                wrong.append(f"{path.relative_to(root)}: {link}: {reason}")
    for line in sorted(set(wrong)):
        print(line, file=sys.stderr)
    print(f"{checked} links on {len(pages)} pages checked, {len(set(wrong))} wrong")
    return len(set(wrong))


def _why_wrong(url, path, pages, root):
    """Why a link leads nowhere, or nothing."""
    if url.scheme in ("data", "mailto"):
        return ""
    if url.scheme or url.netloc:
        return "" if url.scheme == "https" and "." in url.netloc else "not an https address"
    target = (path.parent / unquote(url.path)).resolve() if url.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    if not target.is_relative_to(root):
        return "outside of the documentation"
    if url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors:
        return "no such place on the page"
    return ""


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1])))
