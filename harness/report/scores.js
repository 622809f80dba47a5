"use strict";
// What scorers say of a latent: the table of its scores, marks at its windows, and the range that the list is kept to.

const OUTCOMES = { right: "✓", wrong: "✗", none: "–" };

const outcome = ([, label, said]) => (isMissing(said) ? "none" : said === label ? "right" : "wrong");

function scorerName(about) {
  return about.name.replaceAll("_", " ");
}

function told([, , said, score, shown, reason], name) {
  const opinion = isMissing(said) ? `no answer${reason ? ` (${reason})` : ""}` : said ? "yes" : "no";
  const sure = isMissing(score) ? "" : `, score ${short(score)}`;
  return `${name}: ${opinion}${sure}${shown ? `, shown “${shown}”` : ""}`;
}

// By the place of a test window the verdicts of all scorers, which have the numbers of the table of scores.
function verdictsByWindow(card, scorers) {
  const found = new Map();
  for (const [number, score] of card.scores.entries()) {
    for (const verdict of score.verdicts) {
      if (!found.has(verdict[0])) found.set(verdict[0], []);
      const [kind, name] = [outcome(verdict), scorerName(scorers[score.scorer])];
      const title = `${told(verdict, name)}: ${kind === "none" ? "counts for nothing" : kind}`;
      found.get(verdict[0]).push(
        make("span", { role: "img", class: `verdict ${kind}`, title, "aria-label": title }, `${number + 1}${OUTCOMES[kind]}`));
    }
  }
  return found;
}

const verdictMarks = (marks) => (marks ? [make("div", { class: "verdicts", role: "group", "aria-label": "verdicts" }, ...marks)] : []);

function meanOf(about) {
  if (isMissing(about.value)) return "–";
  const ends = isMissing(about.low) ? [] : [make("small", {}, `${short(about.low)} to ${short(about.high)}`)];
  return make("span", {}, short(about.value), " ", ...ends);
}

function scoreName(score, about) {
  const judge = about.judge ? [make("small", {}, ` by ${about.judge}`)] : [];
  const others = score.others.map((one) => `${one.metric.replaceAll("_", " ")} ${isMissing(one.value) ? `– (${one.reason})` : short(one.value)}`);
  const weak = about.weak ? [make("strong", { class: "weak" }, about.weak)] : [];
  const reason = score.reason ? [make("small", { class: "aside" }, `none: ${score.reason}`)] : [];
  const aside = others.length ? [make("small", { class: "aside" }, others.join(", "))] : [];
  return make("span", {}, make("span", {}, `${scorerName(about)}: ${(about.metric ?? "").replaceAll("_", " ")}`), ...judge, ...reason, ...weak, ...aside);
}

function scores(card, scorers) {
  if (!card.scores.length) return [];
  const lines = card.scores.map((one, number) => [
    String(number + 1), scoreName(one, scorers[one.scorer]),
    ...["value", "chance", "random_explanation", "lift"].map((name) => short(one[name])), meanOf(scorers[one.scorer]),
  ]);
  const table = rowsTable("on the test windows", ["", "scorer", "value", "chance", "random expl.", "lift", "mean of all"], lines);
  table.classList.add("scores");
  return [heading("Scores"), make("div", { class: "scroll", role: "region", "aria-label": "Scores", tabindex: "0" }, table),
    make("p", { class: "hint" }, "Random expl.: the same with another latent's explanation. Lift: the value less what looking tokens up reaches. Mean of all: of the decomposition's latents, weighted, with its 95 % interval.")];
}

/* The list is kept to a range of a number that it shows */

function drawRange(columns) {
  const chosen = find("ranged").value;
  const numbers = columns.filter((column) => column.isNumber);
  find("ranged").replaceChildren(...numbers.map((column) => make("option", { value: column.heading }, column.heading)));
  find("ranged").value = numbers.some((column) => column.heading === chosen) ? chosen : numbers.at(-1).heading;
}

// What has no value lies in no range; a bound that is empty bounds nothing.
function inRange(columns) {
  const [from, to] = ["from", "to"].map((id) => find(id).valueAsNumber);
  if (isNaN(from) && isNaN(to)) return () => true;
  const column = columns.find((one) => one.heading === find("ranged").value);
  return (card) => !isMissing(column.value(card)) && !(column.value(card) < from) && !(column.value(card) > to);
}
