"""Choice scorers' requests answered by the local judge, against the model's bare forward pass over the same prompts.

The prompts are those of `choice_detection` for a few latents: windows of Wikipedia, each under an explanation, under
none and under another latent's. The bare pass reads each prompt whole, in batches of like length, and looks at its last
place only. The floor is the bare pass's rate on the tokens that have to be read: each shared beginning once, and the
rest of each prompt.
Run: `python benchmarks/choices.py [--latents 4]`.
"""

from __future__ import annotations

import torch
from measuring import Table, parser, quiet_medians
from scorers import latents

import harness
from harness.plugins.judges import LocalConfig
from harness.plugins.judges.local import Local

BATCH_ROWS = 8


def bare(judge: Local, prompts: list[tuple[int, ...]], batch_rows: int = BATCH_ROWS) -> list[list[float]]:
    """The log-probabilities of all tokens after each prompt."""
    found: dict[int, list[float]] = {}
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for first in range(0, len(order), batch_rows):
        places = order[first : first + batch_rows]
        n_tokens = len(prompts[places[-1]])
        ids = torch.full((len(places), n_tokens), judge._prompts.padding)
        mask = torch.zeros_like(ids)
        for row, place in enumerate(places):
            ids[row, n_tokens - len(prompts[place]) :] = torch.tensor(prompts[place])
            mask[row, n_tokens - len(prompts[place]) :] = 1
        with torch.no_grad():
            logits = judge._model(
                input_ids=ids.to(judge._device),
                attention_mask=mask.to(judge._device),
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).to(judge._device),
                use_cache=False,
                logits_to_keep=1,
            ).logits
        for place, row in zip(places, logits[:, -1].float().log_softmax(dim=-1), strict=True):
            found[place] = row.tolist()
    return [found[place] for place in range(len(prompts))]


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--latents", type=int, default=4)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    judge, scorer = Local(LocalConfig(device="cpu")), harness.create("scorer", "choice_detection")
    requests = [request for latent in latents(arguments.latents) for request in scorer.plan(latent)]
    asked = [judge._prompts.choices(request) for request in requests]
    prompts = [beginning + rest for (beginning, rest), _ in asked]
    wanted = [[row[ids[0]] for ids in choices] for row, (_, choices) in zip(bare(judge, prompts), asked, strict=True)]
    differ = (torch.tensor(list(judge.choose(requests))) - torch.tensor(wanted)).abs().max()
    seconds = quiet_medians(
        {"judge": lambda: list(judge.choose(requests)), "bare": lambda: bare(judge, prompts)},
        arguments.rounds,
        loaded=arguments.loaded,
    )
    n_needed = sum(map(len, {beginning for (beginning, _), _ in asked})) + sum(len(rest) for (_, rest), _ in asked)
    n_tokens = sum(map(len, prompts))
    table = Table(arguments, "transformers")
    table.add(
        f"{len(requests)} choices by SmolLM2-135M, {n_tokens / len(prompts):.0f} tokens each",
        ("judge local", seconds["judge"]),
        ("the bare forward pass over whole prompts", seconds["bare"]),
        (f"the bare pass's rate on {n_needed} tokens", seconds["bare"] * n_needed / n_tokens),
        f"{n_tokens / seconds['bare']:.0f} tokens/s of the bare pass",
    )
    print(f"  log-probabilities differ by {differ:.1e} at most")


if __name__ == "__main__":
    main()
