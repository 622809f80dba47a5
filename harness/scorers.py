"""What scorers are given, what they may ask, and what is asked of them.

A scorer is pure: `plan` says what it wants to know, the harness finds it out (many requests together, each once), and
`reduce` makes numbers of the answers. So the same scorer runs with any encoder or model, and in tests without one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:  # `harness plan` asks scorers what they would ask, and does without torch
    from jaxtyping import Float, Int
    from torch import Tensor

    from harness.contracts import TableRow

NEAR = ("near_latent", "near_text")
"""Samples of silent windows that are hard to tell from active ones; see `harness/latents/negatives.py`."""


@dataclass(frozen=True)
class LatentWindow:
    """A few consecutive tokens of a document and what one pole of a latent does on each of them."""

    document: str
    tokens: tuple[str, ...]
    """Together they are the text: a space before a word belongs to its token."""
    activations: tuple[float, ...]
    """From 0 on; 0 also for masked rows."""
    is_active: bool
    """True where a token's activation is above the latent's threshold; False where every token is silent. Windows that
    are neither are not shown to scorers."""
    sample: str
    """How it was chosen: `top`, `quantile`, `random` (all active), `silent` (at random), `near_latent` (silent while a
    near latent is active) or `near_text` (silent, with much the same words as an active one)."""

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def peak_token(self) -> str:
        """That of the largest activation, the first of them."""
        return self.tokens[self.activations.index(max(self.activations))]


@dataclass(frozen=True)
class Latent:
    """One pole of one latent. `explain` and `test` windows come from different documents."""

    index: int
    sign: int
    """1, or -1 for the negative pole of a signed code; activations and `direction` are multiplied by it."""
    threshold: float
    """A token is active where its activation exceeds it."""
    explain: tuple[LatentWindow, ...]
    test: tuple[LatentWindow, ...]
    direction: Float[Tensor, " d"] | None = None
    """The latent's row of the dictionary."""
    source: str | None = None
    """Where the latent is a stored activation: the text around the token it was taken from."""
    other: Latent | None = None
    """Another latent of the decomposition: its explanation is the random one that controls this one's."""
    near_explain: tuple[LatentWindow, ...] = ()
    near_test: tuple[LatentWindow, ...] = ()
    """Silent windows that are hard to tell from active ones, of the documents of each half; see `against`."""
    explanation: str | None = None
    """What an explainer says of the explain windows; there for scorers whose Spec says needs=("explanation",)."""

    @property
    def random_explanation(self) -> str | None:
        """The other latent's explanation, which controls this one's; None where there is none."""
        return None if self.other is None else self.other.explanation

    def against(self, negatives: str) -> Latent:
        """The same with other silent windows among `explain` and `test`, and among those of `other`.

        Args:
            negatives: `random`, which they are as given; `near_latent` or `near_text`.
        """
        if negatives == "random":
            return self

        def chosen(windows: tuple[LatentWindow, ...], near: tuple[LatentWindow, ...]) -> tuple[LatentWindow, ...]:
            active = (window for window in windows if window.is_active)
            return (*active, *(window for window in near if window.sample == negatives))

        return replace(
            self,
            explain=chosen(self.explain, self.near_explain),
            test=chosen(self.test, self.near_test),
            other=self.other and self.other.against(negatives),
        )


@dataclass(frozen=True)
class Embed:
    """Asks for the sentence embedding of each text; the response is `[n, e]`, of unit norm, in float64."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class EmbedText:
    """What a judge that is the suite's encoder is asked, once for each text of an `Embed`; the response is a tuple of
    finite numbers, at least one, as many for each text. It may be a `Failure`. Scorers ask `Embed`.
    """

    text: str


@dataclass(frozen=True)
class Choose:
    """Asks a judge how likely it would answer with each choice; the response is a tuple of their natural
    log-probabilities as the continuation, which need not add up to 1. It may be a `Failure`.

    Judges may compute once what `user` has before its last blank line, for all requests that begin alike: put there
    what many share.
    """

    system: str
    user: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Generate:
    """Asks a judge for its likeliest answer, of up to `max_tokens`; the response is a text, or a `Failure`."""

    system: str
    user: str
    max_tokens: int
    schema: str | None = None
    """A JSON schema, as text, that the answer should follow. Not every judge can be held to one: say in the prompt what
    is wanted, and parse the answer."""


@dataclass(frozen=True)
class Likelihood:
    """Asks a judge how likely a text is after a context; the response is (the sum of the natural log-probabilities of
    the text's tokens, their number), or a `Failure`.
    """

    context: str
    text: str


@dataclass(frozen=True)
class Failure:
    """The response to a request that a judge could not answer. It stands for no value: a scorer leaves out what it
    was to tell, and says what share was answered.
    """

    reason: str
    transient: bool = True
    """Whether it may yet be answered: the cell then stays to do, and the next run asks again. False for what is
    settled, such as a text that is refused or an answer that can't be read: kept like an answer, and never asked again.
    """


@dataclass(frozen=True)
class Activate:
    """Asks what the pole does on texts; the response is a list of `Activated`, one for each text."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Activated:
    """A text in the tokens of the model that is decomposed, and what the pole does on each of them."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """From 0 on; 0 also where capture keeps no row, as for a window's first token, and on masked rows."""


@dataclass(frozen=True, eq=False)
class Steer:
    """Asks what the model says next if something is added to its activations on the prompt's last token, at the site of
    the decomposition; the response is `[r, v]`, the log-probabilities of the next token for each addition.
    """

    prompt: str
    additions: Float[Tensor, "r d"]


@dataclass(frozen=True, eq=False)
class Unembed:
    """Asks which tokens directions promote most, by the logit lens; the response is a list of `Promoted`, one for each
    direction.
    """

    directions: Float[Tensor, "r d"]
    n_tokens: int


@dataclass(frozen=True, eq=False)
class Promoted:
    """The tokens that a direction promotes, that of the largest logit first."""

    ids: Int[Tensor, " t"]
    texts: tuple[str, ...]
    """With the space before a word, as in windows."""
    unembedding: Float[Tensor, "t e"]
    """Their rows of the model's head."""


@dataclass(frozen=True)
class Verdict:
    """What a scorer, or the judge that it asked, said of one test window."""

    window: LatentWindow
    """One of the latent's test windows, random or hard; the harness knows it again by its text and activations."""
    label: bool
    """What was right to say: for most scorers whether the window is active."""
    says: bool | None
    """What was said; None where there was no answer, and then `reason` says why."""
    score: float | None = None
    """How surely, on the scorer's own scale; larger where True is likelier."""
    shown: str | None = None
    """The text as it was shown, where it is not the window's: with marks, say."""
    reason: str | None = None


Request: TypeAlias = Embed | Choose | Generate | Likelihood | Activate | Steer | Unembed


def prompt_of(request: Choose | Generate | Likelihood | EmbedText) -> str:
    """All that a judge reads of a request."""
    if isinstance(request, EmbedText):
        return request.text
    if isinstance(request, Likelihood):
        return f"{request.context}\n\n{request.text}"
    return f"{request.system}\n\n{request.user}"


class Scorer(Protocol):
    """Rates how well one pole of a latent can be understood. Pure: asks by `plan`, judges by `reduce`.

    Both may raise `Undefined`: the main metric of this latent is then null. The main metric is a share, from 0 to 1,
    unless the scorer has a `range`, a pair of numbers that may be infinite.

    It may have `also`, other metrics that leaderboards have a line of, with their ranges by name; one end of a range at
    least is finite.
    """

    metric: str
    """The name of its main metric, one of those that `reduce` gives."""
    chance: float
    """The main metric's value for guesses."""

    def plan(self, latent: Latent) -> list[Request]:
        """What to ask; nothing if it asks nobody."""
        ...

    def reduce(self, latent: Latent, requests: list[Request], responses: list[Any]) -> list[TableRow]:
        """The metrics of one latent. The main metric's control is `<metric>_random_explanation` if there is one. Its
        own row may carry `verdicts`, what was said of single windows.
        """
        ...


def also_of(scorer: Any) -> dict[str, tuple[float, float]]:
    """The metrics that leaderboards have a line of besides the main one, and between which numbers they lie."""
    return dict(getattr(scorer, "also", {}))


def range_of(scorer: Any) -> tuple[float, float]:
    """Between which numbers its main metric lies."""
    low, high = getattr(scorer, "range", (0.0, 1.0))
    return low, high
