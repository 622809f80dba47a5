"""Meanings for the reference of names that the code does not explain itself."""

SUITES = """
A suite says what to compare with what. It is one of those below, or a file `conf/suite/NAME.yaml` in the working
folder (`suite=FOLDER/NAME` in a folder there), whose first line is `# @package _global_`. Every key can be overridden
on the command line: `harness run suite=smoke 'seeds=[0,1]'`.
""".strip()

KEYS = {
    "name": "Name of the results folder; by default that of the suite's file.",
    "models": "Presets, or plugins with their parameters; each may have its `label`, `family`, `sites`, `control_of`.",
    "methods": "Names, or plugins with their parameters. A list where a parameter takes one value is a grid.",
    "tokens": "Numbers of rows; see below.",
    "sites": "Places where activations are read, for models that have no `sites` of their own: `resid_post.6`.",
    "similarities": "Metrics that compare all pairs of sites, or each method's fits there if they need decompositions.",
    "evaluations": "Evaluations of every fit.",
    "scorers": "Scorers of the sampled latents of every fit; they need `tokens.interp`.",
    "explainers": "Explainers of these latents in words; scorers that need an explanation score each explainer's.",
    "tasks": "Questions with known answers that judge every similarity; only pairs they ask for are compared.",
    "behaviours": "Contrasting pairs of texts; of each the circuits among the latents of every method are found.",
    "seeds": "Seeds with each of which every method learns once. Several give intervals and tiers.",
    "context": "Length of a window in tokens; documents are cut into windows.",
    "evaluation_share": "Share of the documents for evaluation; no document is in two splits.",
    "interp_share": "Share of the documents for scoring latents.",
    "max_norm_multiple": "Rows whose norm is above this multiple of the median (rows of zeros left out) are masked.",
    "max_disk_gb": "Most disk that a run may take; one that would take more is refused before it starts.",
    "dtype": "Precision in which models run and rows are stored. Methods learn in float32.",
    "device": "Device to compute on; `auto` takes cuda, then mps, then cpu.",
    "plugin_files": "Python files with plugins of your own, relative to the working folder.",
    "wandb": "Logging to W&B; see below.",
    "judge_budget": "Most that judges may spend; see below.",
    "evaluation": "Number of rows that fits are evaluated on.",
    "mode": "Mode of logging: `online` sends at the end of a run; `offline` leaves files for `harness wandb-sync`.",
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
There is a table for every evaluation, and `similarity`, `interp`, `tasks`, `circuits` and `cost`. What could not be
computed has a row with a null value and the reason in `error`; cells that failed or were skipped have one row and no
metric.
`verdicts.parquet`, beside `tables/`, has a row for each test window and each scorer that gave its opinion of it; as
`.csv` it would be too large. `leaderboard.csv` and `interpretability.csv` are summaries: a line per method and place;
`task_scores.csv` and `similarity_ranks.csv` are those of tasks; `model_similarities.csv` has a line per similarity,
score and two models; `circuit_scores.csv` one per behaviour, method and metric of circuits.
""".strip()

REPORTED = """
`cost` also has what a method tells of its own fit, such as `rows_until_full`. `tasks` has the scores that each task
defines. In a name, `*` stands for what differs: an evaluation, an explainer, a scorer; a probe.
""".strip()

COLUMNS = {
    "suite": "Name of the suite.",
    "cell": "Content address of the cell: equal inputs have equal ones, on every machine.",
    "status": "`done`, `undefined` (this metric has no value), `failed` or `skipped`.",
    "error": "Reason why it failed, was skipped or is undefined.",
    "family": "Line of models, such as pythia.",
    "model": "Label of the model.",
    "site": "Place where activations are read: `resid_post.3` is the residual stream after block 3, counted from 0. "
    "`all 2 sites` are those of a model taken together.",
    "behaviour": "Name of the behaviour.",
    "behaviour_config": "Its parameters, defaults included, as JSON.",
    "behaviour_label": "The behaviour as a suite writes it.",
    "sites": "Sites of the model whose latents are looked at together, in forward order.",
    "fit_tokens": "Rows that the method learnt from, before masking.",
    "method": "Name of the method.",
    "method_config": "Its parameters, defaults included, as JSON.",
    "trained_at": "Model and place where it was trained before it came here, in the words of its own config; null for "
    "methods that learn here.",
    "seed": "Seed of the fit: of the order of the rows and of initial weights; with `seeds_vary: documents` also of "
    "the documents it learnt from, and the capture of these has it too.",
    "seeds_vary": "`documents` if each seed learnt from documents of its own, so that intervals over seeds cover a new "
    "draw of training texts; `order` if all learnt from the same, in another order.",
    "split": "For captures: the documents of `fit`, `evaluation` or `interp`.",
    "metric": "Name of the number; see below.",
    "value": "The number; null where there is none.",
    "n": "Number of items that the value rests on: rows for most metrics.",
    "higher_is_better": "True, false, or null if neither holds.",
    "note": "Remark to know when reading the value.",
    "log": "Path in the results folder of all that was printed.",
    "device": "Device on which it was computed.",
    "harness_version": "Version of this package.",
    "plugin_version": "Version of the method, model, similarity, scorer or explainer; raised when its results change.",
    "git_sha": "Commit of the harness's checkout; null when installed from a wheel.",
    "created_at": "Time at which it was computed, in UTC.",
    "similarity": "Name of the similarity.",
    "similarity_config": "Its parameters, as JSON.",
    "task": "Name of the task.",
    "task_config": "Its parameters, as JSON.",
    "scorer": "Name of the scorer; null for counts of latents, and for explanations.",
    "scorer_config": "Its parameters, as JSON.",
    "judge": "Model, encoder or judge, that it asked; null if it needs none.",
    "explainer": "Explainer whose explanations it used, and the model that wrote them; null if it uses none.",
    "latent": "Number of the latent: its row in the dictionary.",
    "sign": "1, or -1 for the negative pole of a signed code.",
    "stratum": "Group of latents of similar density that it was drawn from: `density_1` has the lowest.",
    "weight": "Number of latents that it stands for.",
    "density": "Share of rows where its code is not 0 (for a pole: has its sign).",
    "active_share": "Share of rows where its activation is above its threshold; 1 % at most, so that dense latents are "
    "shown by as many rows as sparse ones.",
    "chance": "Score of guesses; only main metrics have one.",
    "lowest": "Lower end of the range of a main metric, or of another one with a line on leaderboards; null if it has "
    "none.",
    "highest": "Upper end of that range.",
}
COLUMNS |= {
    f"{kind}_label": f"Label of the {kind} for people: its name, and the parameters that are not their defaults."
    for kind in ("method", "similarity", "scorer", "task")
}
COLUMNS |= {
    f"{name}_b": f"`{name}` of the other side."
    for name in ("family", "model", "site", "fit_tokens", "method", "method_config", "trained_at", "seed")
}

LEADERBOARD = {
    **{name: COLUMNS[name] for name in ("family", "model", "site", "fit_tokens", "method", "method_config")},
    "capture_seconds": "Seconds of the forward pass that all methods share; mean over seeds, if each has its own.",
    "seeds_vary": COLUMNS["seeds_vary"],
    "tier": "Tier by the first evaluation's quality, among the methods of the same budget whose sparsity, such as L0, "
    "is within 10 % of this one's; needs two seeds. 1 is the best and all that can't be told from it, 2 the best of "
    "the rest and all of these that can't be told from it. All pairs of methods at the model and site that are so near "
    "to each other are judged together, on the same documents: where no two differ in truth, 95 boards of 100 or more "
    "have one tier.",
    "matched_l0": "Number of the board: methods of one budget whose sparsity is within 10 % of each other share it, "
    "and so do all that such methods link. `tier` compares a method with those within 10 % of its own sparsity only.",
    "pareto": "True if no other method here is both sparser and better.",
}
INTERVAL = "end of the 95 % interval of `{}`, over documents and seeds; none for one seed or under ten documents."
DOCUMENTS = "Number of documents that the interval of `{}` rests on."

UNSHOWN = {
    "dead_share_of_latents": "Share of latents whose code is 0 on every row.",
    "dead_share_of_poles": "Share of poles on whose side the code is on no row; a latent with signed codes has two.",
    "rare_share_of_latents": "Share of latents that are not dead, but whose poles are all dead or rare.",
    "rare_share_of_poles": "Share of poles whose code is not 0 in too few windows to be scored.",
    "no_contrast_share_of_latents": "Share of latents with a pole without contrast, and none that can be scored.",
    "no_contrast_share_of_poles": "Share of poles whose code is not 0 in enough windows, but that are active in too "
    "few of them, or silent in too few.",
}

INTERPRETABILITY = {
    **{name: COLUMNS[name] for name in ("family", "model", "site", "fit_tokens", "method", "method_config")},
    **{name: COLUMNS[name] for name in ("scorer", "scorer_config", "judge", "explainer", "metric", "chance")},
    "value": "Mean over latents, weighted by how many each stands for (Horvitz-Thompson), so that all of the "
    "dictionary count the same; mean over seeds.",
    "low": "Lower end of its 95 % interval over latents and seeds. Two seeds say little; intervals are cut off where "
    "the metric's range ends. Where all latents have its lowest or highest value, an interval ends where 1 of 40 "
    "samples of latents would still agree.",
    "high": "Higher end of it.",
    "interval_over": "`latents`, or `latents and seeds`.",
    "density_weighted": "Mean weighted by density: latents count by weight × density, as often as their code is not 0.",
    "density_weighted_low": "Lower end of its 95 % interval.",
    "density_weighted_high": "Higher end of it.",
    "balanced_accuracy": "The scorer's balanced accuracy, where it has one; chance is 0.5. A mean like `value`.",
    "balanced_accuracy_low": "Lower end of its 95 % interval.",
    "balanced_accuracy_high": "Higher end of it.",
    "random_explanation": "Value with another latent's explanation: the part that is not due to the explanation.",
    "random_explanation_low": "Lower end of its 95 % interval.",
    "random_explanation_high": "Higher end of it.",
    "difference_to_random": "Value minus `random_explanation`, latent by latent.",
    "difference_to_random_low": "Lower end of its 95 % interval.",
    "difference_to_random_high": "Higher end of it.",
    "floor": "Score of the floor, `token_lookup`, on the same latents.",
    "lift": "Value minus floor, latent by latent.",
    "lift_low": "Lower end of its 95 % interval.",
    "lift_high": "Higher end of it.",
    "n_latents": "Number of latents scored, all seeds together.",
    "n_undefined": "Number of latents without a score, which are left out.",
    "n_seeds": "Number of seeds.",
    "seeds_vary": COLUMNS["seeds_vary"],
    **UNSHOWN,
}

VERDICTS = {
    **{name: COLUMNS[name] for name in ("suite", "cell", "family", "model", "site", "fit_tokens", "method")},
    **{name: COLUMNS[name] for name in ("method_config", "seed", "scorer", "scorer_config", "judge", "explainer")},
    **{name: COLUMNS[name] for name in ("latent", "sign")},
    "window": "Place of the window among the card's test windows, from 0 on.",
    "document": "Id of the window's document.",
    "sample": "Way it was chosen: `top`, `quantile`, `random` if active, else `silent`, `near_latent` or `near_text`.",
    "label": "Right answer: true if the latent is active; for fuzzing, if the marks are where it is; for `intruder` "
    "and `embedding_intruder`, which have verdicts on silent windows only, if the window does not belong.",
    "says": "Answer that was given; null if there was none.",
    "score": "Confidence in the answer true, on the scorer's own scale.",
    "shown": "Text as it was shown, if it is not the window's; for `intruder`, all texts that were shown together.",
    "reason": "Reason why there was no answer.",
}

TASK_SCORES = {
    **{name: COLUMNS[name] for name in ("task", "task_config")},
    "family": "Family of the models that it is about.",
    "metric": "Name of the score; the task defines it.",
    **{name: COLUMNS[name] for name in ("similarity", "similarity_config", "method", "method_config", "fit_tokens")},
    "value": "The score, over seeds of the fits together.",
    "low": "Lower end of its 95 % interval, over models; none for fewer than three, or if one is in all pairs. Where "
    "all have the lowest or highest score there is, it ends where 1 of 40 samples of models would still agree.",
    "high": "Higher end of it.",
    "tier": "Tier by the task's main metric on this family. 1 is the best and all that can't be told from it, 2 the "
    "best of the rest and all of these that can't be told from it; all pairs are judged together, on the same models.",
    "difference_to_best": "Value minus that of the best similarity on this family by the task's main metric.",
    "difference_to_best_low": "Lower end of its 95 % interval, on the same models.",
    "difference_to_best_high": "Higher end of it.",
    "difference_to_control": "Value minus that of the family's untrained control.",
    "difference_to_control_low": "Lower end of its 95 % interval.",
    "difference_to_control_high": "Higher end of it.",
    "n": "Number of answers that were judged.",
    "n_models": "Number of models that the interval rests on.",
    "higher_is_better": COLUMNS["higher_is_better"],
    "is_main": "True for the task's main metric.",
}

SIMILARITY_RANKS = {
    **{name: COLUMNS[name] for name in ("similarity", "similarity_config", "method", "method_config", "fit_tokens")},
    "mean_rank": "Mean rank by the main metrics of all tasks on all families but controls; null if one has no score.",
    "n_tasks": "Number of scores that it has.",
    "compare_seconds": "Seconds of one comparison; see the metrics of `tasks`.",
    "compare_memory_bytes": "Most memory of one comparison; see the metrics of `tasks`.",
}

MODEL_SIMILARITIES = {
    **{name: COLUMNS[name] for name in ("similarity", "similarity_config", "method", "method_config", "fit_tokens")},
    "score": "`union`, `best_layer` or `same_depth`; see below.",
    "model": "Label of one model.",
    "model_b": "Label of the other model.",
    "value": "The score, mean over seeds of the fits; null if one of them has none.",
    "null": "The same score made of nulls: of values for shuffled rows, or by chance.",
    "p_value": "Share of random pairings of the rows, the true one counted among them, under which the score is "
    "at least as much alike; if the suite has `permutations`. A pairing is of all sites, so the best of many is fair.",
    "calibrated": "The score on the scale where 95 % of the pairings are at 0 and the most alike there can be is 1.",
    "higher_is_better": "False where the similarity, and so the score, is a distance.",
    "seeds": "Number of seeds in the mean; 1 for representations.",
    "error": "Reason why there is no value.",
}

SCORES_OF_MODELS = """
Scores of `model_similarities.csv`:

```text
{}
```
""".strip()

TASKS = {
    "compare_seconds": "Seconds of one comparison of rows; of decompositions, with learning from both sides.",
    "compare_memory_bytes": "Most memory that a comparison took beyond what was in use before.",
}

SIMILARITY = {
    "similarity": "The value; a distance where `higher_is_better` is false.",
    "similarity_reversed": "The value with the sides exchanged, if that matters.",
    "null_shuffled_rows": "The value for shuffled rows, which have nothing in common.",
    "p_value": "Share of random pairings of the rows, the true one counted among them, that are at least as much "
    "alike, where the suite has `permutations`; `n` is their number.",
    "calibrated": "The value on the scale where the quantile is 0 and the most alike there can be is 1; below, 0 too.",
    "null_quantile": "The value that 95 % of the pairings, the true one among them, are no more alike than.",
    "p_value_reversed": "`p_value` with the sides exchanged, if that matters.",
    "calibrated_reversed": "`calibrated` with the sides exchanged, if that matters.",
    "null_quantile_reversed": "`null_quantile` with the sides exchanged, if that matters.",
    "overlap": "For `jaccard`: number of shared atoms over the smaller number of atoms.",
    "corrected": "For `jaccard`: 0 is the mean for atoms drawn at random, 1 is as much in common as possible.",
    "chance": "For decompositions: the value expected for random candidates, or for random directions.",
    "kept_share_a": "Share of the rows of this side that are compared; others are masked, or have no partner.",
    "kept_share_b": "Share of the rows of the other side that are compared.",
    "silent_share_a": "If codes are compared: share of the latents of this side that do not vary over these rows.",
    "silent_share_b": "Share of the latents of the other side that do not vary over these rows.",
}

INTERP = {
    "units": "Number of poles of latents: two for each latent of a signed code, one otherwise.",
    **UNSHOWN,
    "bounded": "Share of the judge's answers of which a choice's probability is only the most that it can be, as it is "
    "none of the likeliest tokens that the judge lists; no row where there is none.",
    "explained_share": "Share of the sampled poles for which the explainer found an explanation.",
}

CIRCUIT_SCORES = {
    **{name: COLUMNS[name] for name in ("family", "model", "sites", "behaviour", "behaviour_config")},
    **{name: COLUMNS[name] for name in ("method", "method_config", "fit_tokens")},
    "site": "The site that a line is about; null where it is about all of them.",
    "metric": "A metric of `circuits`; what the model does itself has no method.",
    "value": "Mean over seeds.",
    "low": "Lower end of its 95 % interval, over groups of pairs and seeds; none for fewer than five groups.",
    "high": "Higher end of it.",
    "random": "The same of random sets of active latents.",
    "difference_to_random": "Value minus `random`.",
    "difference_to_random_low": "Lower end of its 95 % interval, on the same groups.",
    "difference_to_random_high": "Higher end of it.",
    "n": "Number of items that the value rests on.",
    "n_groups": "Number of groups that the interval rests on.",
    "n_seeds": "Number of seeds.",
    "higher_is_better": COLUMNS["higher_is_better"],
    "error": "Reason why there is no value.",
}

CIRCUITS = {
    "n_pairs": "Contrasts that the model is asked about.",
    "n_left_out": "Contrasts that its tokenizer does not cut alike.",
    "accuracy": "Share of contrasts with m above 0: the logit of the right answer less that of the wrong one.",
    "m_clean": "Mean of m.",
    "m_patch": "Mean of m after the patch, by the answers of the clean text.",
    "attribution_gap": "Share by which attributed effects at a site miss that of replacing the whole site.",
    "attribution_steps": "Steps on the path that it took, doubled from 4 up to 128 until the gap was below 5 %.",
    "n_nodes": "Latents of all sites together.",
    "n_active": "Those active in a pair that circuits are found on.",
    "carried": "Faithfulness of all latents, errors at their mean.",
    "error_share": "Part of the error in the attributed effect of a site.",
    "attribution_exact_ccc": "Concordance (Lin 1989) of attributed and exact effects of 64 latents.",
    "missed_bound": "Largest exact effect among 32 latents drawn from those behind the 32 strongest.",
    "missed_share": "Share of those behind of which at most so many have a larger one, with 95 % confidence.",
    "faithfulness_*": "Faithfulness of so many latents: F = (m(C) - m(none)) / (m(model) - m(none)), all others and "
    "all errors at their mean, on groups that the circuit was not found on.",
    "cpr": "Area under F over log sizes, 1 to 500.",
    "cmd": "Area of |1 - F| over log sizes, 1 to 500.",
    "*_random": "The same of random active latents, mean over at least 20 sets of each size.",
    "nodes_for_0.8": "Fewest of these sizes with a faithfulness of at least .8.",
    "n_minimal": "Latents of the minimal circuit; none is claimed where all latents carry less than .5.",
    "minimal_faithfulness": "Its faithfulness on groups that it was not found on.",
    "completeness": "What is left of the behaviour where only it is at its mean; 0 if nothing was missed.",
    "minimal_share_necessary": "Share of its latents that pass the test of necessity (Shi et al. 2410.13032) at 5 %.",
}

SCALES = {
    "family": "Family of the models that are compared.",
    "method": COLUMNS["method"],
    "method_config": "Its parameters as JSON, without the number of latents.",
    "metric": "A metric of an evaluation, or a scorer with its metric; less the floor's score where there is one.",
    "rule": "Dictionaries that are compared: `equal m`, or `equal m/d`.",
    "size": "That m, or m/d; null where no parameter says it.",
    "slope": "Slope of models' means over ln(parameters), by least squares.",
    "slope_low": "Lower end of its 95 % interval, over models and seeds.",
    "slope_high": "Higher end of it.",
    "untrained_slope": "Slope of the untrained twins.",
    "difference": "The slope less that of the twins.",
    "difference_low": "Lower end of its 95 % interval.",
    "difference_high": "Higher end of it.",
    "n_sizes": "Number of different sizes of models.",
    "n_seeds": "Models and seeds at the size that has fewest.",
    "verdict": "`trend, up`, `trend, down` or `can't be told`.",
    "reason": "Why it can't be told.",
}
