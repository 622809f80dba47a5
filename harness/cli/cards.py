"""Cards in the terminal.

What comes from a corpus or a vocabulary is shown and never obeyed: neither markup nor control characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from harness.cli import display
from harness.wording import visible

_BARS = " ▁▂▃▄▅▆▇█"


def draw_list(label: str, content: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The sampled latents of a decomposition and how many there are of each kind."""
    counts = ", ".join(f"{n} {name}" for name, n in content["units"].items() if name != "total")
    poles = "poles" if content["signed"] else "latents"
    yield Text(f"{label}: {content['units']['total']} {poles} ({counts}), on {content['n_rows']} tokens")
    rows = [
        [card["index"], _sign(card), card["stratum"], card["density"], card["max"], _top(card)]
        for card in sorted(content["cards"], key=lambda card: (card["index"], -card["sign"]))
    ]
    yield display.table("", ["latent", "sign", "stratum", "density", "max", "tokens it is active on"], rows)


def draw_card(label: str, card: Mapping[str, Any], has_colour: bool) -> Iterator[RenderableType]:
    """Draw a card, except for the windows that test explanations; active tokens are coloured, or marked «so»."""
    yield Text(f"{label}: latent {card['index']}, pole {_sign(card)}", style="bold")
    weight = f", stands for {card['weight']:.3g}" if card["weight"] is not None else ""
    yield Text(
        f"{card['stratum']}{weight}; not 0 on {card['density']:.2%} of tokens; active on {card['n_active']} "
        f"({card['active_share']:.2%}) of {card['n_documents']} documents, above {card['threshold']:.3g}; "
        f"max {card['max']:.3g}"
    )
    if card["histogram"]["counts"]:
        edges = card["histogram"]["edges"]
        yield Text(f"{edges[0]:.3g} {sparkline(card['histogram']['counts'])} {edges[-1]:.3g}  (log counts)")
    if card["source"]:
        origin = card["source"]
        yield Text.assemble("\nSource: ", visible(origin["before"]), _marked(origin["token"]), visible(origin["after"]))
    for one in card["explanations"]:
        said = one["text"] if one["text"] is not None else f"none: {one['reason']}"
        yield Text(f"\nExplained by {one['explainer']}: {visible(said)}")
    contexts = Table.grid(padding=(0, 2))
    for window in card["explain"]:
        if window["is_active"]:
            contexts.add_row(Text(window["sample"], style="dim"), draw_window(window, card, has_colour))
    yield contexts
    tokens = [[spaced(t["token"]), t["n_active"], t["n"], t["mean"]] for t in card["top_tokens"]]
    yield display.table("\nTokens it is active on", ["token", "active", "of", "mean activation"], tokens)
    yield from _draw_lens(card["lens"])
    near = ", ".join(f"{item['index']} ({item['cosine']:.2f})" for item in card["nearest"])
    yield Text(f"Nearest latents (cosine): {near or 'none'}")
    for heading, of in (("Members of", "members"), ("In groups of", "parents")):
        yield from _draw_relatives(heading, card.get(of, []))
    if card["scores"]:
        columns = ["scorer", "judge", "explainer", "metric", "value", "chance", "reason"]
        rows = [[score[column] for column in columns] for score in card["scores"]]
        yield display.table("\nScores", [*columns[:-1], "why not"], rows)


def draw_window(window: Mapping[str, Any], card: Mapping[str, Any], has_colour: bool) -> Text:
    """The text with the pole's activations as strength of red, or of blue for negative poles."""
    text = Text()
    for token, activation in zip(window["tokens"], window["activations"], strict=True):
        if activation <= 0:
            text.append(visible(token))
        elif has_colour:
            text.append(visible(token), _style(activation / card["max"], card["sign"]))
        else:
            text.append(f"«{visible(token)}»" if activation > card["threshold"] else visible(token))
    return text


def _draw_relatives(heading: str, relatives: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """Draw a line for each fit that relatives are in, with their weights."""
    for method in dict.fromkeys(one["method"] for one in relatives):
        own = [one for one in relatives if one["method"] == method]
        named = ", ".join(f"{one['index']}{'' if one['sign'] > 0 else '−'} ({one['weight']:.2f})" for one in own)
        yield Text(f"{heading} {method} (weight): {named}")


def _draw_lens(lens: Mapping[str, Any]) -> Iterator[Text]:
    if "reason" in lens:
        yield Text(f"Logit lens: {lens['reason']}")
        return
    for name in ("promoted", "suppressed"):
        tokens = ", ".join(f"{spaced(item['token'])} {item['logit']:+.2g}" for item in lens[name])
        yield Text(f"{name.capitalize()} next tokens: {tokens}")


def spaced(token: str) -> str:
    """A token by itself: its spaces are to be seen."""
    return visible(token).replace(" ", "␣")


def sparkline(counts: Sequence[int]) -> str:
    """A bar for each count, on a logarithmic scale; what is above 0 is to be seen."""
    most = math.log1p(max(counts))
    return "".join(_BARS[math.ceil(math.log1p(n) / most * (len(_BARS) - 1))] if n else _BARS[0] for n in counts)


def _style(strength: float, sign: int) -> Style:
    """Dark on light, so that it can be read on any background."""
    rest = round(235 - 165 * min(max(strength, 0.0), 1.0))
    colour = (255, rest, rest) if sign > 0 else (rest, rest, 255)
    return Style(color="black", bgcolor="rgb({},{},{})".format(*colour))


def _marked(token: str) -> tuple[str, str]:
    return f"«{visible(token)}»", "bold"


def _sign(card: Mapping[str, Any]) -> str:
    return "+" if card["sign"] > 0 else "−"


def _top(card: Mapping[str, Any]) -> str:
    return " ".join(spaced(token["token"]) for token in card["top_tokens"][:5])
