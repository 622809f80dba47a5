"""`python -m harness` is the same as `harness`."""

import sys

from harness.cli.main import main

sys.exit(main())
