"""The claims of the reference results: each a line of claims.yaml, judged by the committed tables.

python results/reference/claims.py

judges them all anew and writes the table of claims of each page, between its two marks. A verdict rests on intervals:
a claim that one value is above another holds where their intervals lie apart that way, does not where they lie apart
the other way, and can't be told where they overlap. Each of its groups of lines has to hold.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

HERE = Path(__file__).parent
HOLDS, DOES_NOT, UNTOLD, NOT_RUN = "holds", "doesn't hold", "can't be told", "not run"
MARKS = "<!-- claims -->", "<!-- end of claims -->"
_MOST_GROUPS = 4


@dataclass(frozen=True)
class Value:
    """A number of one line of a table, or a constant, with its interval."""

    value: float
    low: float
    high: float
    beside: str = ""

    def __str__(self) -> str:
        is_exact = math.isnan(self.low) or self.low == self.high == self.value
        ends = "" if is_exact else f" [{self.low:z.3f}, {self.high:z.3f}]"
        number = f"{self.value:z.3f}" if abs(self.value) < 100 else f"{self.value:,.0f}"
        return f"{number}{ends}{self.beside}"


@dataclass(frozen=True)
class Group:
    """The two values that a claim compares at one place, and what they say."""

    place: str
    a: Value
    b: Value
    verdict: str

    def __str__(self) -> str:
        return f"{self.place}{': ' if self.place else ''}{self.a} against {self.b}"


def above(a: Value, b: Value) -> str:
    return HOLDS if a.low > b.high else DOES_NOT if a.high < b.low else UNTOLD


def below(a: Value, b: Value) -> str:
    return above(b, a)


def not_above(a: Value, b: Value) -> str:
    """A claim about intervals alone: none says above."""
    return DOES_NOT if above(a, b) == HOLDS else UNTOLD if math.isnan(a.low) else HOLDS


def not_apart(a: Value, b: Value) -> str:
    """A claim about intervals alone: none tells the two apart."""
    return UNTOLD if math.isnan(a.low) else HOLDS if above(a, b) == UNTOLD else DOES_NOT


def within(a: Value, b: Value, margin: float) -> str:
    least, most = a.low - b.high, a.high - b.low
    return HOLDS if -margin <= least and most <= margin else DOES_NOT if least > margin or most < -margin else UNTOLD


def at_least(a: Value, b: Value, margin: float) -> str:
    """A claim of being no worse: a is at most `margin` below b."""
    return HOLDS if a.low - b.high >= -margin else DOES_NOT if a.high - b.low < -margin else UNTOLD


def times_less(a: Value, b: Value, times: float) -> str:
    """A claim about measured seconds, which have no interval; `times` leaves room for what they vary by."""
    return HOLDS if a.value * times <= b.value else DOES_NOT


RELATIONS: dict[str, Callable[..., str]] = {
    relation.__name__: relation for relation in (above, below, not_above, not_apart, within, at_least, times_less)
}


def judge(claim: Mapping[str, Any], table: pd.DataFrame) -> tuple[str, list[Group]]:
    """The verdict, and what each group of lines says."""
    if claim["verdict"] == NOT_RUN:
        return NOT_RUN, []
    groups = list(_groups(claim, table))
    if not groups:
        raise ValueError(f"no lines of {claim['csv']} for {claim['says']!r}")
    verdicts = {group.verdict for group in groups}
    return HOLDS if verdicts == {HOLDS} else DOES_NOT if DOES_NOT in verdicts else UNTOLD, groups


def _groups(claim: Mapping[str, Any], table: pd.DataFrame) -> Iterator[Group]:
    lines = table.query(claim["where"]) if "where" in claim else table
    keys = claim.get("by", [])
    for place, own in lines.groupby(keys, sort=False, dropna=False) if keys else [((), lines)]:
        a, b = _value(claim, own, "a"), _value(claim, own, "b")
        if a is None or b is None:
            continue
        ((relation, margin),) = claim["is"].items() if isinstance(claim["is"], dict) else [(claim["is"], None)]
        verdict = RELATIONS[relation](a, b, *([] if margin is None else [margin]))
        yield Group(", ".join(f"{part:,}" if isinstance(part, int) else str(part) for part in place), a, b, verdict)


def _value(claim: Mapping[str, Any], lines: pd.DataFrame, side: str) -> Value | None:
    """The value of a side, a constant or that of the one line (or the best) that its query leaves; None without any."""
    query = claim[side]
    if not isinstance(query, str):
        return Value(query, query, query)
    found = lines.query(query)
    column = claim["column"]
    if "best" in claim:
        found = found.nlargest(1, claim["best"])
    found = found[found[column].notna()]
    if found.empty:
        return None
    if len(found) > 1:
        raise ValueError(f"{len(found)} lines of {claim['csv']} match {query!r} in {claim['says']!r}")
    line = found.iloc[0]
    low, high = ("low", "high") if column == "value" else (f"{column}_low", f"{column}_high")
    ends = (float(line.get(low, math.nan)), float(line.get(high, math.nan)))
    beside = f" (L0 {line['l0']:.1f})" if "l0" in line else ""
    return Value(float(line[column]), *ends, beside)


def claims_of(page: str) -> list[dict[str, Any]]:
    """The claims of a page, each with the name of its table."""
    of_page = _claims()[page]
    return [{"csv": of_page["csv"], **claim} for claim in of_page["claims"]]


def pages() -> list[str]:
    return list(_claims())


@functools.cache
def _claims() -> dict[str, Any]:
    return yaml.safe_load((HERE / "claims.yaml").read_text(encoding="utf-8"))


def table_of(page: str) -> str:
    """The claims of a page as a table: what is said, whether it holds, the numbers, and the lines they are in."""
    rows = [["claim", "verdict", "numbers", "lines"], ["---"] * 4]
    for claim in claims_of(page):
        verdict, groups = judge(claim, pd.read_csv(HERE / claim["csv"]))
        rows.append([claim["says"], _counted(verdict, groups), _numbers(groups) or claim["needs"], _source(claim)])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _counted(verdict: str, groups: list[Group]) -> str:
    n_hold = sum(group.verdict == HOLDS for group in groups)
    return f"**{verdict}**" + (f" ({n_hold} of {len(groups)} hold)" if len(groups) > 1 and n_hold < len(groups) else "")


def _numbers(groups: list[Group]) -> str:
    """All groups, or of many those that do not hold, and the first of those that do."""
    if len(groups) <= _MOST_GROUPS:
        return "; ".join(map(str, groups))
    against = [group for group in groups if group.verdict != HOLDS][:_MOST_GROUPS]
    return "; ".join(map(str, against or groups[:2])) + f"; of {len(groups)}"


def _source(claim: Mapping[str, Any]) -> str:
    if claim["verdict"] == NOT_RUN:
        return "–"
    queries = [claim[name] for name in ("where", "a", "b") if isinstance(claim.get(name), str)]
    best = f", most `{claim['best']}`" if "best" in claim else ""
    by = f" by {', '.join(claim['by'])}" if "by" in claim else ""
    return f"{claim['csv']}: `{claim['column']}`{by} of " + "; ".join(f"`{query}`" for query in queries) + best


def with_table(text: str, page: str) -> str:
    """The text of a page with its table of claims made anew."""
    start, end = MARKS
    pattern = re.compile(f"{re.escape(start)}.*{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{page}.md has no {start} with {end} after it")
    return pattern.sub(lambda _: f"{start}\n\n{table_of(page)}\n\n{end}", text)


def main() -> None:
    for page in pages():
        path = HERE / f"{page}.md"
        path.write_text(with_table(path.read_text(encoding="utf-8"), page), encoding="utf-8")
        for claim in claims_of(page):
            verdict, groups = judge(claim, pd.read_csv(HERE / claim["csv"]))
            if verdict != claim["verdict"]:
                print(f"{page}: {claim['says']!r} is {verdict}, not {claim['verdict']}: {_numbers(groups)}")


if __name__ == "__main__":
    main()
