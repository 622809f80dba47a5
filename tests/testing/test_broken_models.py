"""Models that each break one promise."""

from __future__ import annotations

import random
import re
import types
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import harness
from harness.testing import check_model
from harness.testing.checks import run_check
from harness.testing.model_trials import ModelUnderTest
from harness.testing.models import CHECKS

_WORDS, _START = 4000, 4000
WIDTH = 16


class Good:
    """Words behind a start token, through layers that mix each with those before it, and a head."""

    n_layers = 3
    width = WIDTH
    tokenizer_hash = "words"

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.embedding = torch.randn(_WORDS + 1, WIDTH, generator=draw)
        self.weights = torch.randn(self.n_layers, WIDTH, WIDTH, generator=draw) / 4
        self.words: dict[int, str] = {_START: "<s>"}

    def windows(self, texts: Sequence[str], context: int) -> list[list[harness.Window]]:
        return [self.windows_of(list(re.finditer(r"<s>|\s*\w+|\s*[^\w\s]", text)), context - 1) for text in texts]

    def windows_of(self, words: list[Any], n: int) -> list[harness.Window]:
        return [self.window(words[first : first + n]) for first in range(0, len(words), n)]

    def window(self, words: list[Any]) -> harness.Window:
        if words[0][0] == "<s>":
            words = words[1:]
        ids = [self.token(word[0]) for word in words]
        starts, ends = [word.start() for word in words], [word.end() for word in words]
        special = [True, *[False] * len(words)]
        return harness.Window([_START, *ids], special, [None, *starts], [None, *ends])

    def token(self, word: str) -> int:
        token = zlib.crc32(word.encode()) % _WORDS
        self.words[token] = word
        return token

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        return [self.words[token] for token in ids]

    def activations(self, ids: Tensor, mask: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        layers = {site: self.layer(site) for site in sites}
        found, x = {}, self.embedding[ids.masked_fill(~mask, 0)]
        for layer in range(max(layers.values()) + 1):
            x = self.block(x, mask, layer)
            found |= {site: x for site, wanted in layers.items() if wanted == layer}
        return found

    def layer(self, site: str) -> int:
        layer = harness.parse_site(site).layer
        if layer >= self.n_layers:
            raise harness.ConfigError(f"{site}: there are {self.n_layers} layers.")
        return layer

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        so_far = x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return x + torch.tanh(so_far @ self.weights[layer])

    def replay(self, ids: Tensor, site: str) -> Any:
        mask, layer = torch.ones_like(ids, dtype=torch.bool), self.layer(site)
        x = self.activations(ids, mask, [site])[site]

        def patched(rows: Tensor) -> Tensor:
            for later in range(layer + 1, self.n_layers):
                rows = self.block(rows, mask, later)
            return self.unembed(rows)

        return types.SimpleNamespace(x=x, n_bytes=x.nbytes, logits=lambda: patched(x), patched=patched)

    def unembed(self, x: Tensor) -> Tensor:
        return x @ self.embedding.T

    def unembedding(self, ids: Tensor) -> Tensor:
        return self.embedding[ids]

    def runs(self, ids: Tensor, lengths: Tensor) -> Any:
        return GoodRuns(self, ids, lengths)


class GoodRuns:
    def __init__(self, model: Good, ids: Tensor, lengths: Tensor) -> None:
        self.model, self.ids, self.ends = model, ids, lengths - 1
        self.mask = torch.arange(ids.shape[1]) < lengths[:, None]

    def walk(self, edits: Any, tracked: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        found: dict[str, Tensor] = {}
        x = self.model.embedding[self.ids.masked_fill(~self.mask, 0)]
        for layer in range(self.model.n_layers):
            x, site = self.model.block(x, self.mask, layer), f"resid_post.{layer}"
            x = self.edited(site, x, edits or {})
            found[site] = x = x.detach().requires_grad_() if site in tracked and not x.requires_grad else x
        return found, self.model.unembed(x[torch.arange(len(x)), self.ends])

    def edited(self, site: str, x: Tensor, edits: Any) -> Tensor:
        changed: Tensor = edits[site](x) if site in edits else x
        return changed

    def activations(self, sites: Sequence[str], edits: Any = None) -> dict[str, Tensor]:
        found = self.walk(edits, [])[0]
        return {site: found[site] for site in sites}

    def logits(self, edits: Any = None) -> Tensor:
        return self.walk(edits, [])[1]

    def gradients(self, sites: Sequence[str], of: Any, edits: Any = None) -> dict[str, Tensor]:
        found, logits = self.walk(edits, sites)
        return dict(zip(sites, torch.autograd.grad(of(logits), [found[site] for site in sites]), strict=True))


class OtherShape(Good):
    width = WIDTH + 1


class CountsTwice(Good):
    """Layers are counted by calls: every other one is served twice."""

    n_layers = 6

    def __init__(self) -> None:
        super().__init__()
        self.weights[1::2] = 0


class TakesTheLastForMissingOnes(Good):
    def layer(self, site: str) -> int:
        return min(harness.parse_site(site).layer, self.n_layers - 1)


class SeesPadding(Good):
    """No mask is heeded: padding counts among the words."""

    def activations(self, ids: Tensor, mask: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        return super().activations(ids, torch.ones_like(mask), sites)

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        return x + torch.tanh(x.mean(dim=1, keepdim=True) @ self.weights[layer])


class SeesPaddingsId(Good):
    """An embedding of the window's last token in each row, the padding's as well."""

    def activations(self, ids: Tensor, mask: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        found = super().activations(ids, mask, sites)
        return {site: x + 0.1 * self.embedding[ids[:, -1]][:, None] for site, x in found.items()}


class TakesTheBatchsLength(Good):
    """A rotary table that is another one where any window of the batch is long."""

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        angle = torch.arange(x.shape[1])[:, None] / (4.0 if int(mask.sum(dim=1).max()) > 32 else 1.0)
        return super().block(x * torch.cos(0.1 * angle), mask, layer)


class SwitchesFarOut(Good):
    """A rotary table that is another one where the batch is long, padding counted, beyond what most texts have."""

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        angle = torch.arange(x.shape[1])[:, None] / (4.0 if x.shape[1] > 200 else 1.0)
        return super().block(x * torch.cos(0.1 * angle), mask, layer)


class StaysWithTheShortWay(Good):
    """Attention of a cheaper kind for long windows, until a short one comes."""

    is_cheap = True

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        self.is_cheap &= x.shape[1] > 200
        return super().block(x if self.is_cheap else 0.9 * x, mask, layer)


class NormsTheBatch(Good):
    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        return super().block(x / x[mask].norm(dim=1).mean(), mask, layer)


class AddsUpSites(Good):
    """A hook of one site is still there when the next is read."""

    def activations(self, ids: Tensor, mask: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        found = super().activations(ids, mask, sites)
        return {site: x + 0.01 * (len(sites) - 1) for site, x in found.items()}


class DropsOut(Good):
    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        return torch.nn.functional.dropout(super().block(x, mask, layer), 0.1)


class DrawsItsWeightsGlobally(Good):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.randn(_WORDS + 1, WIDTH)


class KeepsACache(Good):
    """Attends to what an earlier batch had."""

    seen: Any = 0.0

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        found = super().block(x + self.seen, mask, layer)
        self.seen = 0.01 * x.mean()
        return found


class KeepsEverything(Good):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        self.kept.append(x)
        return super().block(x, mask, layer)


class TracksGradients(Good):
    def __init__(self) -> None:
        super().__init__()
        self.weights.requires_grad_()


class WritesIntoIds(Good):
    def activations(self, ids: Tensor, mask: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        ids[~mask] = 0
        return super().activations(ids, mask, sites)


class Overflows(Good):
    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        return super().block(x, mask, layer) / 0


class DropsTheRest(Good):
    def windows_of(self, words: list[Any], n: int) -> list[harness.Window]:
        return super().windows_of(words, n)[:1]


class LeavesAnEmptyWindow(Good):
    def windows_of(self, words: list[Any], n: int) -> list[harness.Window]:
        return super().windows_of(words, n) or [harness.Window([], [], [], [])]


class PadsItsWindows(Good):
    def windows(self, texts: Sequence[str], context: int) -> list[list[harness.Window]]:
        found = super().windows(texts, context)
        n = max((len(windows) for windows in found), default=0)
        return [[*windows, *windows[-1:] * (n - len(windows))] for windows in found]


class CountsFromTheWindow(Good):
    def window(self, words: list[Any]) -> harness.Window:
        found, first = super().window(words), words[0].start()
        shifted = [[None if place is None else place - first for place in side] for side in (found.start, found.end)]
        return harness.Window(found.ids, found.special, *shifted)


class CountsFromOne(Good):
    def window(self, words: list[Any]) -> harness.Window:
        found = super().window(words)
        return harness.Window(found.ids, found.special, [None if s is None else s + 1 for s in found.start], found.end)


class FlagsNothing(Good):
    def window(self, words: list[Any]) -> harness.Window:
        found = super().window(words)
        return harness.Window(found.ids, [False] * len(found.ids), found.start, found.end)


class FlagsEverything(Good):
    def window(self, words: list[Any]) -> harness.Window:
        found = super().window(words)
        return harness.Window(found.ids, [True] * len(found.ids), found.start, found.end)


class StartsTwice(Good):
    def window(self, words: list[Any]) -> harness.Window:
        found = super().window(words)
        return harness.Window([_START, *found.ids], [True, *found.special], [None, *found.start], [None, *found.end])

    def windows(self, texts: Sequence[str], context: int) -> list[list[harness.Window]]:
        return super().windows(texts, context - 1)


class StartsRenderedTextsTwice(Good):
    def token(self, word: str) -> int:
        return _START if word == "<s>" else super().token(word)

    def window(self, words: list[Any]) -> harness.Window:
        ids = [self.token(word[0]) for word in words]
        starts, ends = [word.start() for word in words], [word.end() for word in words]
        return harness.Window([_START, *ids], [True, *[i == _START for i in ids]], [None, *starts], [None, *ends])


class HashesItself(Good):
    @property
    def tokenizer_hash(self) -> str:  # type: ignore[override]
        return f"words-{random.random()}"


class RoundsItsReplay(Good):
    """Clean logits take another way than patched ones."""

    def replay(self, ids: Tensor, site: str) -> Any:
        replay = super().replay(ids, site)
        clean = (replay.logits().double() * (1 + 1e-6)).float()
        return types.SimpleNamespace(x=replay.x, n_bytes=1, logits=lambda: clean, patched=replay.patched)


class ReplaysAnotherSite(Good):
    def replay(self, ids: Tensor, site: str) -> Any:
        return super().replay(ids, f"resid_post.{(self.layer(site) + 1) % self.n_layers}")


class PutsNothingIn(Good):
    def replay(self, ids: Tensor, site: str) -> Any:
        replay = super().replay(ids, site)
        return types.SimpleNamespace(x=replay.x, n_bytes=1, logits=replay.logits, patched=lambda rows: replay.logits())


class SeesAhead(Good):
    """An encoder with a head."""

    def block(self, x: Tensor, mask: Tensor, layer: int) -> Tensor:
        seen = x * mask[:, :, None]
        mean = seen.sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None]
        return x + torch.tanh((seen + mean) @ self.weights[layer])


class UnembedsWithoutItsNorm(Good):
    def replay(self, ids: Tensor, site: str) -> Any:
        replay = super().replay(ids, site)
        return types.SimpleNamespace(
            x=replay.x,
            n_bytes=1,
            logits=lambda: 2 * replay.logits(),
            patched=lambda rows: 2 * replay.patched(rows),
        )


class LacksTokenTexts(Good):
    token_texts: Any = None


class LosesSpaces(Good):
    def token_texts(self, ids: Sequence[int]) -> list[str]:
        return [text[:3] for text in super().token_texts(ids)]


class RunsOtherwise(Good):
    """Runs that each break one promise."""

    make: type[GoodRuns]

    def runs(self, ids: Tensor, lengths: Tensor) -> Any:
        return self.make(self, ids, lengths)


class RoundsWhatIsEdited(RunsOtherwise):
    class make(GoodRuns):  # noqa: N801
        def edited(self, site: str, x: Tensor, edits: Any) -> Tensor:
            return super().edited(site, 0.3 * x, edits) / 0.3 if site in edits else x


class TakesTheLastColumn(RunsOtherwise):
    class make(GoodRuns):  # noqa: N801
        def __init__(self, model: Good, ids: Tensor, lengths: Tensor) -> None:
            super().__init__(model, ids, lengths)
            self.ends = torch.full_like(lengths, ids.shape[1] - 1)


class EditsCleanRows(RunsOtherwise):
    """Edits are given what is there without the others."""

    class make(GoodRuns):  # noqa: N801
        def edited(self, site: str, x: Tensor, edits: Any) -> Tensor:
            clean = self.activations([site])[site] if edits else x
            return super().edited(site, clean if site in edits else x, edits)


class LeavesEditsIn(RunsOtherwise):
    class make(GoodRuns):  # noqa: N801
        def logits(self, edits: Any = None) -> Tensor:
            self.left = {**getattr(self, "left", {}), **(edits or {})}
            return super().logits(self.left)


class HasNoGradientWhereNothingChanges(RunsOtherwise):
    """Values that are as they were are kept by torch.where, and the gradient with them."""

    class make(GoodRuns):  # noqa: N801
        def gradients(self, sites: Sequence[str], of: Any, edits: Any = None) -> dict[str, Tensor]:
            clean, found = self.activations(sites), super().gradients(sites, of, edits)
            changed = self.activations(sites, edits)
            return {site: torch.where(changed[site] == clean[site], 0.0, x) for site, x in found.items()}


BROKEN: dict[type, tuple[str, str]] = {
    OtherShape: ("gives_rows_of_its_width_at_every_layer", r"give floating numbers \[3, 24, 17\]"),
    CountsTwice: ("gives_rows_of_its_width_at_every_layer", "are equal"),
    TakesTheLastForMissingOnes: ("refuses_layers_that_it_has_not_got", "gave something for resid_post.3"),
    SeesPadding: ("does_not_see_padding", "of its norm where padding"),
    SeesPaddingsId: ("does_not_see_padding", "padding has id"),
    TakesTheBatchsLength: ("does_not_mind_the_texts_beside", "without one of 96 tokens in the batch"),
    SwitchesFarOut: ("does_not_mind_the_texts_beside", "without one of 400 tokens in the batch"),
    StaysWithTheShortWay: ("repeats_itself", "after shorter windows"),
    NormsTheBatch: ("does_not_mind_the_texts_beside", "beside other windows"),
    AddsUpSites: ("does_not_mind_the_sites_asked_beside", "asked for beside other sites"),
    DropsOut: ("repeats_itself", "dropout"),
    DrawsItsWeightsGlobally: ("repeats_itself", "from a fresh instance"),
    KeepsACache: ("repeats_itself", "a second time"),
    KeepsEverything: ("keeps_nothing_of_a_batch", "bytes of tensors are held"),
    TracksGradients: ("keeps_nothing_of_a_batch", "no_grad"),
    WritesIntoIds: ("leaves_its_input_alone", "changed ids"),
    Overflows: ("gives_rows_of_its_width_at_every_layer", "NaN or infinite"),
    DropsTheRest: ("covers_each_text", "drop none"),
    LeavesAnEmptyWindow: ("cuts_texts_into_windows", "no empty one"),
    PadsItsWindows: ("cuts_each_text_alone", "cut alone"),
    CountsFromTheWindow: ("points_at_the_text", "count from the text's start"),
    CountsFromOne: ("points_at_the_text", "no token's offsets hold the 'T' at 0"),
    FlagsNothing: ("flags_the_tokens_it_adds", "first token is 4000"),
    FlagsEverything: ("flags_the_tokens_it_adds", "all tokens of .* are special"),
    StartsTwice: ("has_one_token_in_front", "begin with two tokens"),
    StartsRenderedTextsTwice: ("has_one_token_in_front", "begins with '<s>' already"),
    HashesItself: ("names_its_tokenizer", "hashlib"),
    RoundsItsReplay: ("replays_to_the_bit", "patched.* differs from the first logits"),
    ReplaysAnotherSite: ("replays_its_own_rows", "differs from activations"),
    PutsNothingIn: ("puts_rows_in_their_place", "is x put in"),
    SeesAhead: ("predicts_from_earlier_tokens_only", "change earlier rows"),
    LacksTokenTexts: ("has_all_of_its_unembedding", r"token_texts\(\) is missing"),
    UnembedsWithoutItsNorm: ("unembeds_to_its_own_logits", "differs from the model's logits"),
    RoundsWhatIsEdited: ("runs_unedited_as_it_is", "give back what they get"),
    TakesTheLastColumn: ("gives_the_logits_after_each_window", "differ from those of a window alone"),
    EditsCleanRows: ("applies_edits_in_forward_order", "is not what the edit at resid_post.0 leads to"),
    LeavesEditsIn: ("applies_edits_in_forward_order", "leave nothing of a run"),
    HasNoGradientWhereNothingChanges: ("gives_gradients_that_are_differences", "at the clean activations is off by 1"),
    LosesSpaces: ("gives_each_token_its_text", "spells"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    _assert_found(ModelUnderTest(make), *BROKEN[make])


def test_a_wrong_shape_of_the_spec_is_found() -> None:
    shape = {"n_layers": 4, "width": WIDTH}
    message = "n_layers is 4 in the Spec's shape, and 3 in the model"
    _assert_found(ModelUnderTest(Good, shape), "has_the_shape_that_its_spec_states", message)


def test_what_conforms_passes() -> None:
    findings = {finding.check: finding for finding in check_model(Good)}
    own_rows = {"aligns_its_own_rows", "repeats_its_own_rows", "knows_what_its_rows_are_made_of"}
    not_checked = {name for name, finding in findings.items() if finding.outcome == "not checked"}
    assert not_checked == own_rows | {"has_the_shape_that_its_spec_states"}
    assert not [finding for finding in findings.values() if finding.outcome == "fails"]


class OwnRows:
    """Rows that are sums of known features."""

    n_layers = 1
    width = WIDTH
    tokenizer_hash = "none"

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.dictionary = torch.randn(8, WIDTH, generator=draw)
        self.codes = torch.rand(120, 8, generator=draw)

    def stored_capture(self, sites: Sequence[str]) -> harness.Capture:
        if list(sites) != ["resid_post.0"]:
            raise harness.ConfigError("its only site is resid_post.0.")
        return harness.Capture({"resid_post.0": self.codes @ self.dictionary}, self.rows())

    def rows(self) -> pd.DataFrame:
        numbers = np.arange(120)
        documents = [str(number) for number in numbers // 30]
        return harness.make_rows({"document": documents, "window": numbers * 0, "position": numbers % 30})

    def truth(self, rows: pd.DataFrame) -> harness.Truth:
        places = rows["document"].astype(int) * 30 + rows["position"]
        return harness.Truth(self.dictionary, harness.Codes(self.codes[places.to_numpy()]))


class MoreRowsThanLines(OwnRows):
    def rows(self) -> pd.DataFrame:
        return super().rows().iloc[:-1]


class NumbersForDocuments(OwnRows):
    def rows(self) -> pd.DataFrame:
        return super().rows().astype({"document": int})


class MixesDocuments(OwnRows):
    def rows(self) -> pd.DataFrame:
        return super().rows().iloc[::7].pipe(lambda rows: pd.concat([rows, super(MixesDocuments, self).rows()])[:120])


class DrawsRows(OwnRows):
    def __init__(self) -> None:
        super().__init__()
        self.codes = torch.rand(120, 8)


class TruthOfOtherRows(OwnRows):
    def truth(self, rows: pd.DataFrame) -> harness.Truth:
        return harness.Truth(self.dictionary, harness.Codes(self.codes[: len(rows)]))


BROKEN_ROWS: dict[type, tuple[str, str]] = {
    MoreRowsThanLines: ("aligns_its_own_rows", "a row for each line"),
    NumbersForDocuments: ("aligns_its_own_rows", "ids are texts"),
    MixesDocuments: ("aligns_its_own_rows", "do not stand together"),
    DrawsRows: ("repeats_its_own_rows", "other rows the second time"),
    TruthOfOtherRows: ("knows_what_its_rows_are_made_of", "are they in their order"),
}


@pytest.mark.parametrize("make", BROKEN_ROWS, ids=lambda make: make.__name__)
def test_wrong_rows_are_found(make: Any) -> None:
    _assert_found(ModelUnderTest(make), *BROKEN_ROWS[make])


def test_own_rows_that_conform_pass() -> None:
    assert sum(finding.outcome == "holds" for finding in check_model(OwnRows)) == 4
    assert not [finding for finding in check_model(OwnRows) if finding.outcome == "fails"]


def test_one_that_cannot_be_made_is_told_once() -> None:
    def make() -> Any:
        raise harness.ConfigError("no such file")

    findings = check_model(make)
    (failed,) = [finding for finding in findings if finding.outcome == "fails"]
    assert failed == findings[0] and "no such file" in failed.message


def _assert_found(under_test: ModelUnderTest, name: str, message: str) -> None:
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, under_test)
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem
