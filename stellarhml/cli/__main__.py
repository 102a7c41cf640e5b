"""Run the command as `python -m stellarhml.cli`."""

import sys

from stellarhml.cli.main import main

sys.exit(main())
