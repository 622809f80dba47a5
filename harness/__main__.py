"""`python -m harness` is the same as `harness`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # where the user stands, which may be among files that somebody else has sent

    from harness.cli.main import main

    sys.exit(main())
