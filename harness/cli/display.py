"""Progress of a run and tables, as the terminal shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from harness.planning.cells import Cell
from harness.wording import dollars, duration, short, size, visible

if TYPE_CHECKING:
    from harness.asking.judge_costs import JudgeCosts
    from harness.running.estimate import Estimate


class TerminalDisplay:
    """A bar for the cells and one for the work inside; plain lines where the output is not a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.counts: Counter[str] = Counter()
        self.warned: set[str] = set()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)

    def __enter__(self) -> TerminalDisplay:
        self.progress.start()
        self.inner: dict[str, TaskID] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """One line, whatever a plugin's error holds."""
        self.console.print(visible(text), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def begin(self, n_cells: int) -> None:
        self.n_cells = n_cells
        self.counts.clear()  # of an earlier turn of the run
        self.outer = self.progress.add_task("cells", total=n_cells)

    def event(self, event: dict[str, Any], cell: Cell | None) -> None:
        if event["event"] == "progress":
            self.progress.update(
                self._bar(event.get("agent", "")),
                description=visible(event["text"]),
                completed=event["done"],
                total=event["total"],
                visible=True,
            )
            return
        if event["event"] == "warning" and event["text"] not in self.warned:
            self.warned.add(event["text"])  # other cells may have reason to say the same
            self.say(f"warning: {event['text']}")
        if event["event"] != "cell" or cell is None:
            return
        self.counts[event["status"]] += 1
        self.progress.update(self._bar(event.get("agent", "")), visible=False)
        self.progress.update(self.outer, advance=1)
        if event["status"] == "done" and self.console.is_terminal:
            return
        reason = f": {event['error']}" if event["error"] else ""
        self.say(f"[{self.counts.total()}/{self.n_cells}] {event['status']} {cell.label}{reason}")

    def at_work(self, working: Sequence[tuple[str, Sequence[Cell]]]) -> None:
        """Lines for what each process does, where no bar shows it: a log then tells a long cell from one that hangs."""
        if self.console.is_terminal:
            return
        for process, cells in working:
            if cells:
                others = f" and {len(cells) - 1} beside it" if len(cells) > 1 else ""
                self.say(f"[{self.counts.total()}/{self.n_cells}] at work: {cells[0].label}{others} ({process})")

    def _bar(self, agent: str) -> TaskID:
        """The bar for the work inside of one worker."""
        if agent not in self.inner:
            self.inner[agent] = self.progress.add_task("", total=None, visible=False)
        return self.inner[agent]


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    unbroken: Collection[str] = (),
    numbers: Collection[str] = (),
) -> Table:
    """A table whose numbers are right-aligned, short and never broken.

    Args:
        title: above it; a new line first where there is something before it.
        columns: the headings.
        rows: numbers, texts, and None for what is not there.
        unbroken: columns of texts that are never broken either, but at the new lines they have.
        numbers: columns of numbers that are written already.
    """
    # All as it is: nothing is markup, and even `:x:` would become a picture.
    above = _lines(title) if title else None
    drawn = Table(title=above, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        is_number = column in numbers or any(isinstance(row[i], (int, float)) for row in rows)
        justify = "right" if is_number else "left"
        no_wrap = is_number or column in unbroken
        drawn.add_column(_lines(column), justify=justify, overflow="fold", no_wrap=no_wrap)  # type: ignore[arg-type]
    for row in rows:
        drawn.add_row(*(_lines(short(value)) for value in row))
    return drawn


def _lines(text: str) -> Text:
    return Text("\n".join(map(visible, text.split("\n"))))


def against_plan(expected: Estimate, seconds: float, n_bytes: int) -> str:
    """A sentence that sets what a run took beside what was expected."""
    return (
        f"took {duration(seconds)} and {size(n_bytes)} of disk; planned were about {duration(expected.seconds)} and "
        f"{size(expected.disk_bytes)}"
    )


def _certainty(needed: Estimate) -> str:
    """The basis of an estimated time, in brackets."""
    if not needed.seconds:
        return ""
    words = {
        "measured": "measured in earlier runs here",
        "calibrated": "by shipped costs and this machine's speed",
        "shipped": f"by shipped costs and the rate card {needed.machine}; nothing was run there",
    }
    shares = sorted(needed.seconds_by_origin.items(), key=lambda item: -item[1])
    told = [f"{seconds / needed.seconds:.0%} {words[origin]}" for origin, seconds in shares]
    return f" ({', '.join(told)})" if len(told) > 1 else f" ({words[shares[0][0]]})"


def costs(needed: Estimate, asked: JudgeCosts) -> list[str]:
    """Sentences that say what a plan will cost."""
    unknown = f", and {needed.n_unknown_disk} captures of unknown width" if needed.n_unknown_disk else ""
    untimed = f", and {needed.n_unknown_seconds} cells of models of unknown width" if needed.n_unknown_seconds else ""
    models = f", up to {size(needed.model_bytes)} more for models that are not there yet" if needed.model_bytes else ""
    again = (
        f", of which up to {needed.n_tokens_again:,} again for rows that are not stored"
        if needed.n_tokens_again
        else ""
    )
    saved = f" instead of {size(needed.disk_bytes + needed.saved_bytes)}" if needed.saved_bytes else ""
    lines = [
        f"tokens to read: {needed.n_tokens:,}{again}; disk: {size(needed.disk_bytes)}{saved}{unknown}{models}",
        f"time: about {duration(needed.seconds)}{_certainty(needed)}{untimed}",
    ]
    if needed.memory_bytes:
        has = f" of {size(needed.card_has_bytes)}" if needed.card_has_bytes else ""
        of_card = f"; on the card: about {size(needed.card_bytes)}{has}" if needed.card_bytes is not None else ""
        lines.append(f"memory: about {size(needed.memory_bytes)}{of_card}")
    if asked.n_requests or asked.n_unknown_requests:
        untold = f", and those of {asked.n_unknown_requests} cells" if asked.n_unknown_requests else ""
        tokens = f"about {asked.n_prompt_tokens:,} prompt tokens, up to {asked.n_answer_tokens:,} answer tokens"
        money = "unknown price" if asked.usd is None else f"up to {dollars(asked.usd)}" if asked.usd else "$0"
        lines.append(f"asked of the judge: up to {asked.n_requests:,} requests, {tokens}, {money}{untold}")
    return lines
