"""What the reference says where the code has names and no words."""

SUITES = """
A suite says what to compare with what. It is one of those below, or a file `conf/suite/NAME.yaml` in the folder where
you stand, whose first line is `# @package _global_`. Every key can be overridden on the command line:
`harness run suite=smoke 'seeds=[0,1]'`.
""".strip()

KEYS = {
    "name": "Names the results folder; if not given, the suite's file does.",
    "models": "Presets, or plugins with their parameters; each may have its `label`, `family`, `sites`, `control_of`.",
    "methods": "Names, or plugins with their parameters. A list where a parameter takes one value is a grid.",
    "tokens": "See below.",
    "sites": "Where activations are read, for models that have no `sites` of their own: `resid_post.6`.",
    "similarities": "Each compares all pairs of sites; those that need decompositions, each method's fits there.",
    "evaluations": "Each judges every fit.",
    "scorers": "Each rates the sampled latents of every fit; needs `tokens.interp`.",
    "explainers": "Each explains them in words; scorers that need an explanation are asked with each one's.",
    "tasks": "Each judges every similarity by a question with a known answer; only pairs they ask for are compared.",
    "seeds": "Every method learns once with each. Several give intervals and tiers.",
    "context": "Tokens of a window; documents are cut into windows.",
    "evaluation_share": "Of the documents; no document serves two ends.",
    "interp_share": "Of the documents.",
    "max_norm_multiple": "Rows whose norm is above this multiple of the median are masked.",
    "max_disk_gb": "What would take more is refused before it starts.",
    "dtype": "In which models run, and rows are stored. Methods learn in float32.",
    "device": "`auto` is cuda, then mps, then cpu.",
    "plugin_files": "Python files with plugins of your own, relative to where you stand.",
    "wandb": "See below.",
    "judge_budget": "See below.",
    "evaluation": "Rows that fits are judged on.",
    "mode": "`online` sends at the end of a run; `offline` leaves files; see also `harness wandb-sync`.",
    "project": "The project on W&B.",
    "entity": "User or team; null for your default.",
}

PRESETS = {
    "suite": "`harness run suite=NAME`.",
    "model": "`models: [{preset: NAME, sites: [...]}]`; any parameter may be added to override the preset's.",
    "corpus": "`corpus: NAME`.",
}

PLUGINS = """
Every built-in, as `harness show KIND/NAME` has it. In a suite: `NAME`, or `{KIND: NAME, parameter: value}`; a list
where a parameter takes one value is a grid. From Python: `harness.create(KIND, NAME, parameter=value)`. The blocks are
the definitions in the source. *Needs* names what has to be there besides rows; where it is not, a cell is skipped with
the reason.
""".strip()

TABLES = """
`results/NAME/tables/TABLE.parquet` and `.csv`: one row is a cell (a fit, an evaluation and so on) and one metric of it.
There is a table for every evaluation, and `similarity`, `interp`, `tasks` and `cost`. What could not be computed has a
row with a null value and the reason in `error`; cells that failed or were skipped have one row and no metric.
`verdicts.parquet`, beside `tables/`, has a row for each test window and each scorer that gave its opinion of it; as
`.csv` it would be too large. `leaderboard.csv` and `interpretability.csv` are summaries: a line per method and place;
`task_scores.csv` and `similarity_ranks.csv` are those of tasks; `model_similarities.csv` has a line per similarity,
score and two models.
""".strip()

REPORTED = """
`cost` also has what a method tells of its own fit, such as `rows_until_full`. `tasks` has the scores that each task
defines. In a name, `*` stands for what differs: an evaluation, an explainer, a scorer; a probe.
""".strip()

COLUMNS = {
    "suite": "Name of the suite.",
    "cell": "Content address of the cell: equal inputs have equal ones, on every machine.",
    "status": "`done`, `undefined` (this metric has no value), `failed` or `skipped`.",
    "error": "Why it failed, was skipped or is undefined.",
    "family": "Line of models, such as pythia.",
    "model": "Label of the model.",
    "site": "Where activations are read: `resid_post.3` is the residual stream after block 3, counted from 0. "
    "`all 2 sites` are those of a model taken together.",
    "fit_tokens": "Rows that the method learnt from, before masking.",
    "method": "Name of the method.",
    "method_config": "Its parameters, defaults included, as JSON.",
    "seed": "Of the fit: order of the rows, initial weights.",
    "split": "For captures: the documents of `fit`, `evaluation` or `interp`.",
    "metric": "Name of the number; see below.",
    "value": "The number; null where there is none.",
    "n": "What it rests on: rows for most metrics.",
    "higher_is_better": "True, false, or null where neither holds.",
    "note": "What to know when reading the value.",
    "log": "What was printed, in the results folder.",
    "device": "Where it was computed.",
    "harness_version": "Of this package.",
    "plugin_version": "Of the method, model, similarity, scorer or explainer; raised when its results change.",
    "git_sha": "Commit of the harness's checkout; null when installed from a wheel.",
    "created_at": "When it was computed, in UTC.",
    "similarity": "Name of the similarity.",
    "similarity_config": "Its parameters, as JSON.",
    "task": "Name of the task.",
    "task_config": "Its parameters, as JSON.",
    "scorer": "Name of the scorer; null for counts of latents, and for explanations.",
    "scorer_config": "Its parameters, as JSON.",
    "judge": "The model, encoder or judge, that it asked; null if it asks nobody.",
    "explainer": "What wrote the explanations that it used, and by what model; null if it uses none.",
    "latent": "Number of the latent: its row in the dictionary.",
    "sign": "1, or -1 for the negative pole of a signed code.",
    "stratum": "Group of latents of like density that it was drawn from.",
    "weight": "How many latents it stands for.",
    "density": "Share of rows on which it is active.",
    "chance": "What guesses would score; only main metrics have one.",
    "lowest": "The least that a main metric, or another one with a line on leaderboards, can be; null where there is "
    "no end.",
    "highest": "The most.",
}
COLUMNS |= {
    f"{kind}_label": f"How the {kind} is written for people: its name, and the parameters that are not their defaults."
    for kind in ("method", "similarity", "scorer", "task")
}
COLUMNS |= {
    f"{name}_b": f"`{name}` of the other side."
    for name in ("family", "model", "site", "fit_tokens", "method", "method_config", "seed")
}

LEADERBOARD = {
    **{name: COLUMNS[name] for name in ("family", "model", "site", "fit_tokens", "method", "method_config")},
    "capture_seconds": "Of the forward pass that all methods share.",
    "tier": "By the first evaluation's quality, among methods of equal sparsity; needs two seeds. What can't be "
    "separated shares one.",
    "matched_l0": "Number of the group of methods whose sparsity, such as L0, is equal within 10 %.",
    "pareto": "Whether no other method here is both sparser and better.",
}
INTERVAL = "end of the 95 % interval of `{}`, over documents and seeds."

INTERPRETABILITY = {
    **{name: COLUMNS[name] for name in ("family", "model", "site", "fit_tokens", "method", "method_config")},
    **{name: COLUMNS[name] for name in ("scorer", "scorer_config", "judge", "explainer", "metric", "chance")},
    "value": "Mean over latents, weighted by how many each stands for (Horvitz-Thompson), so that all of the "
    "dictionary count the same; mean over seeds.",
    "low": "Lower end of its 95 % interval. Two seeds say little; intervals are cut off where the metric's range ends.",
    "high": "Higher end of it.",
    "interval_over": "`latents`, or `latents and seeds`.",
    "density_weighted": "Mean over activations: latents count by weight × density, as often as they are met.",
    "density_weighted_low": "Lower end of its 95 % interval.",
    "density_weighted_high": "Higher end of it.",
    "balanced_accuracy": "The scorer's balanced accuracy, where it has one; chance is 0.5. A mean like `value`.",
    "balanced_accuracy_low": "Lower end of its 95 % interval.",
    "balanced_accuracy_high": "Higher end of it.",
    "random_explanation": "The same with another latent's explanation: what a score owes to all but the explanation.",
    "random_explanation_low": "Lower end of its 95 % interval.",
    "random_explanation_high": "Higher end of it.",
    "difference_to_random": "Value less that, latent by latent.",
    "difference_to_random_low": "Lower end of its 95 % interval.",
    "difference_to_random_high": "Higher end of it.",
    "floor": "What the floor, `token_lookup`, scores on the same latents.",
    "lift": "Value less floor, latent by latent.",
    "lift_low": "Lower end of its 95 % interval.",
    "lift_high": "Higher end of it.",
    "n_latents": "Latents scored, all seeds together.",
    "n_undefined": "Latents without a score; they are left out.",
    "n_seeds": "How many.",
    "dead_share": "Share of latents that are active on no row.",
    "rare_share": "Share of latents that are active too rarely to be scored.",
}

VERDICTS = {
    **{name: COLUMNS[name] for name in ("suite", "cell", "family", "model", "site", "fit_tokens", "method")},
    **{name: COLUMNS[name] for name in ("method_config", "seed", "scorer", "scorer_config", "judge", "explainer")},
    **{name: COLUMNS[name] for name in ("latent", "sign")},
    "window": "Place of the window among the card's test windows, from 0 on.",
    "document": "Of the window.",
    "sample": "How it was chosen: `top`, `quantile`, `random` if active, else `silent`, `near_latent` or `near_text`.",
    "label": "What was right to say: that the latent is active; for fuzzing that the marks are where it is; for "
    "`intruder` and `embedding_intruder`, which tell of silent windows alone, that the window does not belong.",
    "says": "What was said; null where there was no answer.",
    "score": "How surely, on the scorer's own scale; larger where true is likelier.",
    "shown": "The text as it was shown, where it is not the window's; all that were shown together, for `intruder`.",
    "reason": "Why there was no answer.",
}

TASK_SCORES = {
    **{name: COLUMNS[name] for name in ("task", "task_config")},
    "family": "Whose models it is about.",
    "metric": "Name of the score; the task defines it.",
    **{name: COLUMNS[name] for name in ("similarity", "similarity_config", "method", "method_config", "fit_tokens")},
    "value": "The score, over seeds of the fits together.",
    "low": "Lower end of its 95 % interval, over models; none for fewer than three.",
    "high": "Higher end of it.",
    "tier": "By the task's main metric on this family; what can't be separated shares one.",
    "difference_to_best": "By the task's main metric: the value less that of the best similarity on this family.",
    "difference_to_best_low": "Lower end of its 95 % interval, on the same models.",
    "difference_to_best_high": "Higher end of it.",
    "difference_to_control": "The value less that of the family's untrained control.",
    "difference_to_control_low": "Lower end of its 95 % interval.",
    "difference_to_control_high": "Higher end of it.",
    "n": "Answers that were judged.",
    "higher_is_better": COLUMNS["higher_is_better"],
    "is_main": "Whether it is the task's main metric.",
}

SIMILARITY_RANKS = {
    **{name: COLUMNS[name] for name in ("similarity", "similarity_config", "method", "method_config", "fit_tokens")},
    "mean_rank": "Over the main metrics of all tasks on all families but controls; null where a task has no score.",
    "n_tasks": "Scores that it has.",
    "compare_seconds": "See the metrics of `tasks`.",
    "compare_memory_bytes": "See the metrics of `tasks`.",
}

MODEL_SIMILARITIES = {
    **{name: COLUMNS[name] for name in ("similarity", "similarity_config", "method", "method_config", "fit_tokens")},
    "score": "`union`, `best_layer` or `same_depth`; see below.",
    "model": "Label of the one model.",
    "model_b": "Label of the other.",
    "value": "The score, mean over seeds of the fits; null where one of them has none.",
    "null": "The same score of the nulls: of shuffled rows, or of what chance gives.",
    "higher_is_better": "False where the similarity, and so the score, is a distance.",
    "seeds": "How many were averaged; 1 for representations.",
    "error": "Why there is no value.",
}

SCORES_OF_MODELS = """
How `model_similarities.csv` comes about:

```text
{}
```
""".strip()

TASKS = {
    "compare_seconds": "Seconds of one comparison of rows; of decompositions, with learning from both sides.",
    "compare_memory_bytes": "The most memory that one took above what was held before.",
}

SIMILARITY = {
    "similarity": "The value; a distance where `higher_is_better` is false.",
    "similarity_reversed": "The value with the sides exchanged, where that matters.",
    "null_shuffled_rows": "The value for shuffled rows: what it shows where nothing is shared.",
    "overlap": "For `jaccard`: shared atoms by the smaller number of atoms.",
    "corrected": "For `jaccard`: 0 is what atoms drawn at random have on average, 1 as much in common as can be.",
    "chance": "For decompositions: the value expected of random candidates, or of random directions.",
    "kept_share_a": "Share of the rows of this side that are compared; others are masked, or have no partner.",
    "kept_share_b": "Share of the rows of the other side that are compared.",
    "silent_share_a": "Where codes are compared: share of the latents of this side that do not vary over these rows.",
    "silent_share_b": "The same of the other side.",
}

INTERP = {
    "units": "Poles of latents that there are: two for each latent of a signed code, one otherwise.",
    "dead_share": "Share of them that are active on no row.",
    "rare_share": "Share of them that are active in too few windows to be scored.",
    "explained_share": "Share of the sampled ones that the explainer found an explanation for.",
}
