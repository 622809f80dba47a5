"""Makes `literal`, the slow reference implementations, importable from the tests of methods."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
