"""Every promise of SECURITY.md names a test that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_promise_has_a_test():
    promised = (ROOT / "SECURITY.md").read_text().split("## What is not promised")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 10
    for row in rows:
        names = re.findall(r"`(tests/[^`]+)`", row.rsplit("|", 2)[1])
        assert names, row
        assert all((ROOT / name).is_file() for name in names), row
