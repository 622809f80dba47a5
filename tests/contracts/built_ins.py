"""The built-ins, assigned to the Protocols that they keep: mypy says where one does not.

`make lint` checks this file. `test_protocols` checks that nothing is missing from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import harness
from harness.plugins.behaviours import contrast_file, number_agreement, repeated_tokens
from harness.plugins.corpora import files, huggingface, synthetic
from harness.plugins.corpora import packaged as packaged_texts
from harness.plugins.evaluations import (
    dictionary_health,
    downstream,
    drift,
    ground_truth,
    hierarchy,
    reconstruction,
    sparse_probing,
)
from harness.plugins.explainers import judge_written, token_statistics
from harness.plugins.judges import local, openai_http, replay
from harness.plugins.methods import (
    baselines,
    clusters,
    ica,
    itda,
    itda_paper,
    kmeans,
    meta_sae,
    pca,
    random_dictionary,
    random_groups,
    sized_baseline,
)
from harness.plugins.methods.sae import batch_topk, gated, jumprelu, matryoshka, pretrained, relu, topk, untrained
from harness.plugins.models import hf, packaged, random_weights, seedling, stored, superposition
from harness.plugins.scorers import (
    atom_provenance,
    choice_detection,
    choice_fuzzing,
    context_dependence,
    embedding_intruder,
    embedding_retrieval,
    example_embedding,
    generated_detection,
    generated_fuzzing,
    input_score,
    intruder,
    output_score,
    senses,
    simulation,
    surprisal,
    token_lookup,
    vocab_coherence,
)
from harness.plugins.tasks import (
    depth_matching,
    group_separation,
    invariance,
    layer_matching,
    layer_monotonicity,
    noise_sensitivity,
    null_calibration,
    sample_size,
    training_convergence,
)

T = TypeVar("T")
Makers: TypeAlias = Mapping[str, Callable[..., T]]
"""Functions that make a plugin from its config, by the plugin's name."""

METHODS: Makers[harness.Learner] = {
    "batch_topk_sae": batch_topk.BatchTopKSAE,
    "clusters": clusters.Clusters,
    "gated_sae": gated.GatedSAE,
    "ica": ica.ICA,
    "identity": baselines.Identity,
    "itda": itda.ITDA,
    "itda_paper": itda_paper.ITDAPaper,
    "jumprelu_sae": jumprelu.JumpReLUSAE,
    "kmeans": kmeans.KMeans,
    "matryoshka_sae": matryoshka.MatryoshkaSAE,
    "mean": baselines.Mean,
    "meta_sae": meta_sae.MetaSAE,
    "pca": pca.PCA,
    "pretrained_sae": pretrained.PretrainedSAE,
    "random_dictionary": random_dictionary.RandomDictionary,
    "random_groups": random_groups.RandomGroups,
    "relu_sae": relu.ReLUSAE,
    "sized_baseline": sized_baseline.SizedBaseline,
    "topk_sae": topk.StackableTopKSAE,
    "untrained_sae": untrained.UntrainedSAE,
}
SCORERS: Makers[harness.Scorer] = {
    "atom_provenance": atom_provenance.AtomProvenance,
    "choice_detection": choice_detection.ChoiceDetection,
    "choice_fuzzing": choice_fuzzing.ChoiceFuzzing,
    "context_dependence": context_dependence.ContextDependence,
    "detection": generated_detection.GeneratedDetection,
    "embedding_intruder": embedding_intruder.EmbeddingIntruder,
    "embedding_retrieval": embedding_retrieval.EmbeddingRetrieval,
    "example_embedding": example_embedding.ExampleEmbedding,
    "fuzzing": generated_fuzzing.GeneratedFuzzing,
    "input_score": input_score.InputScore,
    "intruder": intruder.Intruder,
    "output_score": output_score.OutputScore,
    "senses": senses.Senses,
    "simulation": simulation.Simulation,
    "surprisal": surprisal.Surprisal,
    "token_lookup": token_lookup.TokenLookup,
    "vocab_coherence": vocab_coherence.VocabCoherence,
}
EXPLAINERS: Makers[harness.Explainer] = {
    "judge_written": judge_written.JudgeWritten,
    "token_statistics": token_statistics.TokenStatistics,
}
JUDGES: Makers[harness.Judge] = {
    "local": local.Local,
    "openai_http": openai_http.OpenAIHTTP,
    "replay": replay.Replay,
}
TASKS: Makers[harness.Task] = {
    "depth_matching": depth_matching.DepthMatching,
    "group_separation": group_separation.GroupSeparation,
    "invariance": invariance.Invariance,
    "layer_matching": layer_matching.LayerMatching,
    "layer_monotonicity": layer_monotonicity.LayerMonotonicity,
    "noise_sensitivity": noise_sensitivity.NoiseSensitivity,
    "null_calibration": null_calibration.NullCalibration,
    "sample_size": sample_size.SampleSize,
    "training_convergence": training_convergence.TrainingConvergence,
}
EVALUATIONS: Makers[harness.Evaluation] = {
    "dictionary_health": dictionary_health.DictionaryHealth,
    "downstream": downstream.Downstream,
    "drift": drift.Drift,
    "ground_truth": ground_truth.GroundTruth,
    "hierarchy": hierarchy.Hierarchy,
    "reconstruction": reconstruction.Reconstruction,
    "sparse_probing": sparse_probing.SparseProbing,
}
MODELS: Makers[harness.Model] = {
    "hf": hf.load,
    "packaged": packaged.load,
    "random_weights": random_weights.load,
    "seedling": seedling.Seedling,
    "stored": stored.Stored,
    "superposition": superposition.Superposition,
}
CORPORA: Makers[harness.Corpus] = {
    "files": files.FilesCorpus,
    "huggingface": huggingface.HuggingFaceCorpus,
    "packaged": packaged_texts.PackagedCorpus,
    "synthetic": synthetic.SyntheticCorpus,
}
BEHAVIOURS: Makers[harness.Behaviour] = {
    "contrast_file": contrast_file.ContrastFile,
    "number_agreement": number_agreement.NumberAgreement,
    "repeated_tokens": repeated_tokens.RepeatedTokens,
}

BUILT_INS: Mapping[str, Makers[Any]] = {
    "method": METHODS,
    "scorer": SCORERS,
    "explainer": EXPLAINERS,
    "judge": JUDGES,
    "task": TASKS,
    "evaluation": EVALUATIONS,
    "model": MODELS,
    "corpus": CORPORA,
    "behaviour": BEHAVIOURS,
}

RESUMABLE: Makers[harness.Resumable] = {
    "batch_topk_sae": batch_topk.BatchTopKSAE,
    "gated_sae": gated.GatedSAE,
    "jumprelu_sae": jumprelu.JumpReLUSAE,
    "matryoshka_sae": matryoshka.MatryoshkaSAE,
    "relu_sae": relu.ReLUSAE,
    "topk_sae": topk.StackableTopKSAE,
}
STACKABLE: Makers[harness.Stackable] = {"topk_sae": topk.StackableTopKSAE}
HAS_RANGE: Makers[harness.HasRange] = {
    "senses": senses.Senses,
    "simulation": simulation.Simulation,
    "vocab_coherence": vocab_coherence.VocabCoherence,
}
HAS_OTHER_METRICS: Makers[harness.HasOtherMetrics] = {"senses": senses.Senses}
HAS_MAX_CHARACTERS: Makers[harness.HasMaxCharacters] = {"judge_written": judge_written.JudgeWritten}
CHOOSING: Makers[harness.ChoosingJudge] = {
    "local": local.Local,
    "openai_http": openai_http.OpenAIHTTP,
    "replay": replay.Replay,
}
GENERATING: Makers[harness.GeneratingJudge] = {
    "local": local.Local,
    "openai_http": openai_http.OpenAIHTTP,
    "replay": replay.Replay,
}
LIKELIHOOD: Makers[harness.LikelihoodJudge] = {
    "local": local.Local,
    "openai_http": openai_http.OpenAIHTTP,
    "replay": replay.Replay,
}
EMBEDDING: Makers[harness.EmbeddingJudge] = {"openai_http": openai_http.OpenAIHTTP, "replay": replay.Replay}
TEXT_MODELS: Makers[harness.TextModel] = {
    "hf": hf.load,
    "packaged": packaged.load,
    "random_weights": random_weights.load,
    "seedling": seedling.Seedling,
}
HAS_HEAD: Makers[harness.HasHead] = {
    "hf": hf.load,
    "packaged": packaged.load,
    "random_weights": random_weights.load,
    "seedling": seedling.Seedling,
}
HAS_RUNS: Makers[harness.HasRuns] = {
    "hf": hf.load,
    "packaged": packaged.load,
    "random_weights": random_weights.load,
    "seedling": seedling.Seedling,
}
HAS_UNEMBEDDING: Makers[harness.HasUnembedding] = {
    "hf": hf.load,
    "packaged": packaged.load,
    "random_weights": random_weights.load,
    "seedling": seedling.Seedling,
}
HAS_INNER_SITES: Makers[harness.HasInnerSites] = {
    "hf": hf.load,
    "packaged": packaged.load,
    "random_weights": random_weights.load,
    "seedling": seedling.Seedling,
    "stored": stored.Stored,
}
HAS_OWN_ROWS: Makers[harness.HasOwnRows] = {"stored": stored.Stored, "superposition": superposition.Superposition}
KNOWS_TRUTH: Makers[harness.KnowsTruth] = {"superposition": superposition.Superposition}

ABLE: Mapping[str, Mapping[type, Makers[Any]]] = {
    "method": {harness.Resumable: RESUMABLE, harness.Stackable: STACKABLE},
    "scorer": {harness.HasRange: HAS_RANGE, harness.HasOtherMetrics: HAS_OTHER_METRICS},
    "explainer": {harness.HasMaxCharacters: HAS_MAX_CHARACTERS},
    "judge": {
        harness.ChoosingJudge: CHOOSING,
        harness.GeneratingJudge: GENERATING,
        harness.LikelihoodJudge: LIKELIHOOD,
        harness.EmbeddingJudge: EMBEDDING,
    },
    "model": {
        harness.RunsTexts: TEXT_MODELS,
        harness.HasHead: HAS_HEAD,
        harness.HasRuns: HAS_RUNS,
        harness.HasUnembedding: HAS_UNEMBEDDING,
        harness.HasInnerSites: HAS_INNER_SITES,
        harness.HasOwnRows: HAS_OWN_ROWS,
        harness.KnowsTruth: KNOWS_TRUTH,
    },
}
"""By kind the abilities that a plugin may have, and the built-ins that have each."""


class _Unfinished:
    """A learner that lacks `finish`."""

    passes = 1
    batch_rows = 1

    def start(self, info: harness.Info) -> None: ...

    def partial_fit(self, batch: harness.Batch) -> None: ...


class _Talkative:
    """A scorer whose chance is a text."""

    metric = "auroc"
    chance = "half"

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        return []

    def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> list[harness.TableRow]:
        return []


class _Headstrong:
    """A model whose replay is asked for no site."""

    def replay(self, ids: Any) -> harness.Replay:
        raise NotImplementedError


# Wrong on purpose: mypy reports an exemption that it does not need, so it must find each of these wrong.
WRONG_METHODS: Makers[harness.Learner] = {"unfinished": _Unfinished}  # type: ignore[dict-item]  # lacks finish
WRONG_SCORERS: Makers[harness.Scorer] = {"talkative": _Talkative}  # type: ignore[dict-item]  # chance is no number
WRONG_MODELS: Makers[harness.HasHead] = {"headstrong": _Headstrong}  # type: ignore[dict-item]  # takes no site
