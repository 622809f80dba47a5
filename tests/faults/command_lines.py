"""Odd command lines and suite files: each ends with exit code 0, 1 or 2, in seconds, and without a traceback."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from harness.planning.suite import SuiteConfig
from harness.registry.plugin_manager import load_catalog
from tests.faults.subject import NAME, Subject
from tests.faults.trial import Trial

_SECONDS = 30
_KEYS = (
    *(field.name for field in dataclasses.fields(SuiteConfig)),
    *("tokens.fit", "tokens.interp", "tokens.fit.0", "wandb.mode", "wandb.project", "judge_budget.usd", "models.0"),
    *("models.0.sites", "models.0.label", "models.0.path", "models.7", "methods.0", "methods.2.k", "corpus.paths"),
    *("corpus.corpus", "encoder.preset", "judge.judge", "seeds.0", "executor.workers", "hydra.run.dir", "_target_"),
)
_VALUES = (
    *("0", "1", "-1", "1e3", "1.5", "nan", "-inf", "1e400", "9" * 30, "true", "null", "~", "''", "a", "mean", "pca"),
    *(
        "smoke",
        "../x",
        "/etc/passwd",
        "é",
        "\u202eabc",
        "\x1b[31m",
        "a b",
        "a=b",
        "a:b",
        "[",
        "]",
        "{",
        "}",
        "[]",
        "{}",
    ),
    *("[[]]", "[{}]", "{a: }", "[1,2", "{a: [1}", "'", '"', "\\", "$", "${", "${}", "${name}", "${oc.env:HOME}"),
    *(
        "${oc.env:NOPE}",
        "${models}",
        "${.name}",
        "???",
        "*",
        "&a 1",
        "*a",
        "<<",
        "!!python/object:os.system",
        "x" * 300,
    ),
    *("resid_post.0", "resid_post.-1", "mlp_out.0", "cpu", "float32", "offline", "online", "😀", "ａ", "0x10", "1_000"),
    *("1:2:3", "2020-01-01", "%s", "{0}", "[null]", "[resid_post.1,resid_post.1]", "auto", "local", "wikipedia", "-"),
)
_LISTS = {
    **{"method": "methods", "similarity": "similarities", "evaluation": "evaluations", "scorer": "scorers"},
    **{"explainer": "explainers", "task": "tasks", "model": "models", "corpus": "corpus", "judge": "judge"},
    "behaviour": "behaviours",
}
_VERBS = {
    **{"plan": 60, "status": 6, "leaderboard": 5, "report": 2, "explain": 8, "list": 3, "show": 6, "new": 3, "gc": 3},
    **{"compare": 3, "wandb-sync": 1, "verify": 2, "--help": 1, "-x": 1, "": 1},
}
_SUITE = """# @package _global_
models:
  - {model: random_weights, label: r, family: f, sites: [resid_post.1, resid_post.2]}
corpus: {corpus: synthetic}
tokens: {fit: 6000, evaluation: 3000, interp: 6000}
context: 64
methods:
  - identity
  - {method: pca, n_components: 32, k: 8}
evaluations: [reconstruction, downstream]
similarities:
  - cka
latents: 8
scorers: [token_lookup]
"""
_LINES = (
    *("defaults:\n  - /model: pythia-70m", "defaults: [smoke]", "<<: *x", "---", "...", "a: &a [*a]", "seeds: [0,0]"),
    *(
        "x: !!python/name:os.system ''",
        "name: ../../x",
        "name: ''",
        "# @package _global_: x",
        "? [a]\n: b",
        "- 1",
        "\ufeff",
    ),
)


class TooSlow(BaseException):
    """A command line takes longer than anybody waits for a message."""


@dataclass
class CommandLines:
    """Command lines in a folder with a finished suite's results and configs of its own."""

    subject: Subject

    def __post_init__(self) -> None:
        self.plugins = sorted(load_catalog().entries.items())
        self.before = {path.name for path in self.subject.folder.iterdir()}
        self.suite = self.subject.folder / "conf" / "suite" / "odd.yaml"

    def trials(self, seed: int, first: int = 0) -> Iterator[tuple[int, list[Trial]]]:
        for number in count(first):
            yield number, [self.trial(random.Random(f"lines {seed} {number}"))]

    def trial(self, draw: random.Random) -> Trial:
        file = self._suite_file(draw) if draw.random() < 0.3 else None
        if file is not None:
            self.suite.parent.mkdir(parents=True, exist_ok=True)
            self.suite.write_bytes(file)
        words = [word.replace("\0", "") for word in self._words(draw, "odd" if file is not None else "smoke")]
        words = [word.encode("utf-8", "replace").decode() for word in words]
        try:
            with _in_time():
                said = self.subject.call(*words)
        except TooSlow:
            return Trial("slow", repr(words), "lost", repr(file))
        finally:
            for path in self.subject.folder.iterdir():
                if path.name not in self.before:
                    shutil.rmtree(path, ignore_errors=True)
        kind = "suite file" if file is not None else "command line"
        if said.code is None or "Traceback (most recent" in said.err:
            return Trial(kind, repr(words), "traceback", f"{said.err[-700:]} {file!r}")
        if said.code not in (0, 1, 2):
            return Trial(kind, repr(words), "lost", f"exit code {said.code}; {file!r}")
        if said.code == 2 and not said.err.strip():
            return Trial(kind, repr(words), "silent", f"exit code 2 without a word; {file!r}")
        return Trial(kind, repr(words), "named" if said.code else "harmless")

    def _words(self, draw: random.Random, suite: str) -> list[str]:
        verb = draw.choices(list(_VERBS), list(_VERBS.values()))[0]
        kind, name = draw.choice(self.plugins)[0]
        if verb in ("show", "new"):
            words = [draw.choice((f"{kind}/{name}", kind, name, self._value(draw), "/", f"{kind}/"))]
        elif verb in ("list", "compare", "gc"):
            words = [
                draw.choice((kind, f"results/{NAME}", "nowhere", self._value(draw))) for _ in range(draw.randrange(3))
            ]
        else:
            base = draw.choice((f"suite={suite}", f"suite={suite}", f"name={NAME}", f"suite={self._value(draw)}"))
            words = [base, *(self._override(draw) for _ in range(draw.choice((0, 1, 1, 1, 2, 3))))]
        if verb == "explain":
            names = ("site", "method", "latent", "sign", "seed", "model")
            words += [f"{draw.choice(names)}={self._value(draw)}" for _ in range(draw.randrange(4))]
        if draw.random() < 0.3:
            words.append(draw.choice(("--json", "--yes", "--captures", "--mode", "--board", "-h", "--", "--zzz")))
        if draw.random() < 0.1:
            draw.shuffle(words)
        return [verb, *words] if verb else words

    def _override(self, draw: random.Random) -> str:
        if draw.random() < 0.3:
            kind = draw.choice(list(_LISTS))
            value = self._plugin(draw, kind)
            return f"{_LISTS[kind]}=" + (value if kind in ("corpus", "judge") else f"[{value}]")
        key = draw.choice(_KEYS) if draw.random() < 0.93 else self._value(draw)
        before = draw.choice(("+", "~", "++", "hydra.", "hydra/", "suite@")) if draw.random() < 0.15 else ""
        between = draw.choice(("==", "", " = ", ":")) if draw.random() < 0.1 else "="
        return f"{before}{key}{between}{self._value(draw)}"

    def _value(self, draw: random.Random, depth: int = 0) -> str:
        chance = draw.random()
        if depth > 3 or chance < 0.6:
            return draw.choice(_VALUES)
        if chance < 0.65:
            return "".join(chr(draw.randrange(1, 0x3000)) for _ in range(draw.randrange(1, 12)))
        inner = [self._value(draw, depth + 1) for _ in range(draw.randrange(4))]
        if chance < 0.8:
            return f"[{','.join(inner)}]"
        if chance < 0.9:
            return "{" + ", ".join(f"{draw.choice((*_KEYS, 'method', 'k'))}: {value}" for value in inner) + "}"
        return self._plugin(draw, None)

    def _plugin(self, draw: random.Random, kind: str | None) -> str:
        """A plugin with some of its parameters, and values that these may not have."""
        (kind, name), registered = draw.choice([found for found in self.plugins if kind in (None, found[0][0])])
        config: Any = registered.spec.config
        names = [field.name for field in dataclasses.fields(config)] if config else []
        chosen = draw.sample(names, min(len(names), draw.randrange(4))) + draw.choice(([], [], [], ["zzz"], ["label"]))
        return "{" + ", ".join([f"{kind}: {name}", *(f"{name}: {self._value(draw, 3)}" for name in chosen)]) + "}"

    def _suite_file(self, draw: random.Random) -> bytes:
        if draw.random() < 0.05:
            return draw.randbytes(draw.randrange(300))
        lines = _SUITE.split("\n")
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(lines))
            match draw.randrange(7):
                case 0:
                    lines[place] = ""
                case 1:
                    lines[place] = lines[place].partition(":")[0] + ": " + self._value(draw)
                case 2:
                    lines.insert(place, f"{draw.choice((*_KEYS, 'defaults'))}: {self._value(draw)}")
                case 3:
                    lines[place] = draw.choice((" ", "   ", "\t")) + lines[place]
                case 4:
                    lines.insert(place, draw.choice(_LINES))
                case 5:
                    other = draw.randrange(len(lines))
                    lines[place], lines[other] = lines[other], lines[place]
                case _:
                    at = draw.randrange(len(lines[place]) + 1)
                    lines[place] = lines[place][:at] + draw.choice("[]{}:,&*!|>'\"%@`#\0\aé") + lines[place][at + 1 :]
        return "\n".join(lines).encode("utf-8", "replace")


@contextmanager
def _in_time() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
