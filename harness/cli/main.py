"""Benchmarks decompositions of language-model activations. Every `key=value` is a Hydra override of a suite.

Exit codes: 0 all done, 1 some cells failed or all were skipped, or results differ, 2 usage or config error.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from gc import set_threshold
from typing import Any

from harness.cli import authoring, catalog, comparison, gc, verbs, verification, watching
from harness.cli.console import ALL_DONE, INTERRUPTED, USAGE, complain
from harness.cli.signals import Ended
from harness.errors import ConfigError, HarnessError, remedy, suggest
from harness.version import __version__

_MAX_PROBLEMS = 50
_OBJECTS_PER_SEARCH = 50_000
"""New objects after which Python looks for cycles. Looking after every 700 takes a sixth of the time of a report."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    set_threshold(_OBJECTS_PER_SEARCH)
    try:
        options = _parsed(arguments)
        if sys.platform == "win32":
            raise ConfigError(
                "harness does not run on Windows, whose locks, process groups and renames are others. Run it in WSL, "
                "the Linux that Windows brings along."
            )
        code: int = options.verb_function(options)
        return code
    except HarnessError as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        for problem in problems[:_MAX_PROBLEMS]:
            complain(f"error: {problem}")
        if len(problems) > _MAX_PROBLEMS:
            complain(f"error: and {len(problems) - _MAX_PROBLEMS:,} more of the kind")
        return USAGE
    except BrokenPipeError:  # `harness list | head`
        sys.stderr.close()
        return ALL_DONE
    except OSError as error:
        where = " and ".join(str(path) for path in (error.filename, error.filename2) if path)
        complain(f"error: {where}{': ' * bool(where)}{error.strerror or error}. {remedy(error)}".rstrip())
        return USAGE
    except MemoryError:
        complain("error: out of memory; what is done stays done. Run again with more memory, or with fewer workers.")
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted; what is done stays done, run again to go on")
        return INTERRUPTED
    except Ended as ended:
        complain(f"ended by {ended}; what is done stays done, and it goes on with the same command")
        return ended.by_signal()


_VERBS = {
    "list": (catalog.list_verb, "what plugins offer: harness list [KIND] [--json]"),
    "show": (catalog.show_verb, "one plugin's parameters: harness show KIND/NAME [--json]"),
    "plan": (verbs.plan_verb, "what a run would do: harness plan suite=NAME [key=value ...] [--json]"),
    "run": (verbs.run_verb, "run a suite, or what is left of it: harness run suite=NAME [key=value ...]"),
    "work": (
        verbs.work_verb,
        "do jobs of a suite beside others that share its folders, until nothing is left: harness work suite=NAME",
    ),
    "status": (verbs.status_verb, "where every cell stands: harness status suite=NAME [--json]"),
    "leaderboard": (
        verbs.leaderboard_verb,
        "methods by model and site: harness leaderboard suite=NAME [top=K] [--json]",
    ),
    "explain": (verbs.explain_verb, "one latent: harness explain suite=NAME [method=M latent=N sign=1 ...] [--json]"),
    "watch": (
        watching.watch_verb,
        "an alarm, and named latents, where a stream of documents changes: harness watch suite=NAME stream=PATH|- "
        "[site=S method=M batch=16 horizon=2000 window=32 text_field=text ...]",
    ),
    "report": (verbs.report_verb, "the results as a page, results/NAME/report/index.html: harness report suite=NAME"),
    "compare": (comparison.compare_verb, "whether two results are equal, and where not: harness compare A B [--json]"),
    "check": (
        authoring.check_verb,
        "what a plugin promises and does not keep: harness check KIND/NAME [key=value ...]",
    ),
    "new": (authoring.new_verb, "a plugin to start from, in the folder NAME: harness new KIND NAME"),
    "gc": (gc.gc_verb, "what no suite needs any more, and frees it: harness gc [suite=NAME | FOLDER ...] [--yes]"),
    "verify": (
        verification.verify_verb,
        "read everything, and name what is damaged: harness verify [suite=NAME | FOLDER | cache ...] [--json]",
    ),
    "wandb-sync": (verbs.wandb_sync_verb, "log stored results to W&B: harness wandb-sync suite=NAME [--mode MODE]"),
}
_WITH_JSON = ("list", "show", "plan", "status", "leaderboard", "explain", "compare", "check", "gc", "verify")

_WITH_WORDS = ("show", "compare", "check", "new")
_SWITCHES = {
    "gc": {
        "--captures": "with the captures that only cells which are done need",
        "--models": "with converted models, which are made again when they are used",
        "--yes": "remove it; else it is only shown",
    },
    "run": {"--verify": "read everything first, also what is not used this time, and make again what is damaged"},
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        wrong = re.search(r"argument VERB: invalid choice: '([^']*)'", message)
        if wrong:
            raise ConfigError(f"unknown verb {wrong[1]!r}.{suggest(wrong[1], _VERBS)} See harness --help.")
        raise ConfigError(f"{message}. See harness --help.")


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options and words of a verb, in any order: argparse itself takes no word after an option."""
    parser = _parser()
    options, left_over = parser.parse_known_args(arguments)
    unknown = [argument for argument in left_over if argument.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.words += left_over
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="harness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    for name, (function, summary) in _VERBS.items():
        verb = subparsers.add_parser(name, help=summary, description=summary)
        verb.add_argument("words", nargs="+" if name in _WITH_WORDS else "*", metavar="WORD")
        if name in _WITH_JSON:
            verb.add_argument("--json", action="store_true", help="print JSON")
        if name == "work":
            verb.add_argument("--board", metavar="ID", help="work for this run only, and not for one that follows it")
        for option, about in _SWITCHES.get(name, {}).items():
            verb.add_argument(option, action="store_true", help=about)
        if name == "wandb-sync":
            verb.add_argument("--mode", choices=["offline", "online"], help="instead of the suite's wandb.mode")
        verb.set_defaults(verb_function=function)
    return parser
