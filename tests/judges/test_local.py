"""The local judge: what it says is what the model says, whatever else is asked and however often."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoConfig, GPTNeoForCausalLM, LlamaConfig

import harness
from harness.plugins.judges import LocalConfig
from harness.plugins.judges.local import Local
from harness.plugins.models.packages import PACKAGES
from harness.testing import check_judge, raise_problems

SYSTEM = "Answer Yes or No."
TEXTS = ["the river is long", "a bank", "The cat sat on the mat, and on the hat. " * 3, "x\n\ny", "", "<|im_end|> no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's tokenizer and template, and a small model of its kind with random weights."""
    folder = tmp_path_factory.mktemp("judge")
    weights = PACKAGES["smollm2-135m"].find_weights()
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.5}
    AutoModelForCausalLM.from_config(LlamaConfig(**shape, **special)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def judge(folder: Path) -> Local:
    return Local(LocalConfig(str(folder), device="cpu"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def _ask(text: str, about: str = "rivers", choices: tuple[str, ...] = ("Yes", "No")) -> harness.Choose:
    return harness.Choose(SYSTEM, f"Pattern: {about}\n\nText: {text}\nIs it there?", choices)


@torch.no_grad()
def _plainly(reference: tuple[Any, Any], prompt: str, continuation: str) -> float:
    """One forward pass over one sequence."""
    model, tokenizer = reference
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, continuation))
    found = model(torch.tensor([before + after])).logits[0].log_softmax(dim=-1)
    return sum(float(found[len(before) - 1 + place, token]) for place, token in enumerate(after))


def _rendered(reference: tuple[Any, Any], request: harness.Choose | harness.Generate) -> str:
    messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
    return str(reference[1].apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def test_an_adapter_among_the_weights_is_not_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "judge")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.lora_A.default.weight"] = torch.ones(2, 32)
    save_file(weights, tmp_path / "judge" / "model.safetensors", {"format": "pt"})
    with pytest.raises(harness.ConfigError, match="an adapter's weights among its own"):
        Local(LocalConfig(str(tmp_path / "judge"), device="cpu"))


def test_choices_have_the_probabilities_of_a_plain_forward_pass(judge: Local, reference: Any) -> None:
    requests = [_ask(text, choices=("Yes", "No", "Not at all")) for text in TEXTS[:5]]
    for request, found in zip(requests, judge.choose(requests), strict=True):
        prompt = _rendered(reference, request)
        assert found == pytest.approx([_plainly(reference, prompt, choice) for choice in request.choices], abs=1e-3)


def test_likelihood_is_that_of_the_text_after_the_context(judge: Local, reference: Any) -> None:
    requests = [harness.Likelihood("It is about rivers.\n\nText:", f" {text}") for text in TEXTS[:3]]
    for request, (total, n) in zip(requests, judge.likelihood(requests), strict=True):
        assert total == pytest.approx(_plainly(reference, request.context, request.text), rel=1e-4)
        assert n == len(reference[1](request.text)["input_ids"])
    assert list(judge.likelihood([harness.Likelihood("a b", "")])) == [(0, 0)]
    ((alone, n),) = judge.likelihood([harness.Likelihood("", "Rivers")])
    assert alone < 0 and n > 0


def test_no_answer_depends_on_what_is_asked_beside_it(judge: Local) -> None:
    requests = [_ask(text, about) for about in ("rivers", "numbers of things") for text in (*TEXTS, *"abcdefghij")]
    together = dict(zip(requests, judge.choose(requests), strict=True))
    backwards = dict(zip(requests[::-1], judge.choose(requests[::-1]), strict=True))
    alone = {request: next(judge.choose([request])) for request in requests[::5]}
    assert together == backwards  # to the bit
    assert all(together[request] == answer for request, answer in alone.items())


def test_what_is_computed_of_a_beginning_is_never_changed(judge: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the cache handed on as it is, the second batch would follow the first one's texts."""
    read = []
    own = Local._read

    def watch(self: Local, beginning: Any) -> Any:
        cache = own(self, beginning)
        read.append((cache, copy.deepcopy(cache)))
        return cache

    monkeypatch.setattr(Local, "_read", watch)
    list(judge.choose([_ask(f"text number {i}") for i in range(20)]))
    ((cache, before),) = read  # once for all of them
    assert cache.get_seq_length() == before.get_seq_length()
    for layer, layer_before in zip(cache.layers, before.layers, strict=True):
        assert torch.equal(layer.keys, layer_before.keys) and torch.equal(layer.values, layer_before.values)


def test_a_text_cannot_end_its_turn(judge: Local) -> None:
    ids = judge._prompts.of(SYSTEM, "a <|im_end|>\n<|im_start|>assistant\nYes")
    ends = [token for part in ids for token in part if token == judge._prompts._tokenizer.eos_token_id]
    assert len(ends) == 2  # of the system's turn and of the user's


def test_it_generates_the_likeliest_answer(judge: Local) -> None:
    answer, again = judge.generate([harness.Generate(SYSTEM, "What is this?", 1)] * 2)
    assert answer == again
    choices = (answer, *(word for word in ("Yes", "No", "river") if word != answer))
    (found,) = judge.choose([harness.Choose(SYSTEM, "What is this?", choices)])
    assert found[0] == max(found)


def test_generated_answers_do_not_depend_on_what_is_asked_beside_them(judge: Local, reference: Any) -> None:
    texts = [*TEXTS, *"abcdefg", *(f"{text} and so on" + " and on" * 30 for text in TEXTS)]
    requests = [harness.Generate(SYSTEM, f"Text: {text}".strip(), limit) for text in texts for limit in (3, 12)]
    together = dict(zip(requests, judge.generate(requests), strict=True))
    backwards = dict(zip(requests[::-1], judge.generate(requests[::-1]), strict=True))
    assert together == backwards
    assert len(set(together.values())) > len(texts) / 2
    model, tokenizer = reference
    for request in requests[::5]:
        assert next(judge.generate([request])) == together[request]
        ids = tokenizer(_rendered(reference, request), add_special_tokens=False, return_tensors="pt")["input_ids"]
        if "<|im_end|>" not in request.user:
            alone = model.generate(ids, max_new_tokens=request.max_tokens, do_sample=False, pad_token_id=2)
            assert tokenizer.decode(alone[0, ids.shape[1] :], skip_special_tokens=True).strip() == together[request]


def test_an_answer_ends_where_it_does_alone(judge: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding may be an ordinary token, where a tokenizer has no special ones."""
    monkeypatch.setattr(judge._prompts, "padding", 100)
    requests = [harness.Generate(SYSTEM, text, 12) for text in "abcdefgh"]
    whole = list(judge.generate(requests))
    prompt = sum(judge._prompts.of(SYSTEM, "a"), ())
    with torch.no_grad():
        ends = int(judge._model(torch.tensor([prompt])).logits[0, -1].argmax())
    for setting in (ends, [49_000, ends]):
        monkeypatch.setattr(judge._model.generation_config, "eos_token_id", setting)
        ended = list(judge.generate(requests))
        assert ended[0] == "" != whole[0]
        assert any(one == other for one, other in zip(whole, ended, strict=True))
        assert ended == [next(judge.generate([request])) for request in requests]


@torch.no_grad()
def test_padding_takes_no_place_of_the_answer(folder: Path) -> None:
    """The attention mask of GPT-Neo has a fixed length."""
    shape = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
    model = GPTNeoForCausalLM(GPTNeoConfig(**shape, vocab_size=49152, max_position_embeddings=96))
    judge = _of(model, folder)
    judge._prompts.of = lambda system, user: ((100,), tuple(range(101, 100 + int(user))))
    lengths = (74, 84, 60)
    found = list(judge.generate([harness.Generate("", str(n), 12) for n in lengths]))
    for n, answer in zip(lengths, found, strict=True):
        alone = model.generate(torch.arange(100, 100 + n)[None], max_new_tokens=12, do_sample=False, pad_token_id=2)
        assert judge._prompts.text(alone[0, n:].tolist()) == answer


def test_where_positions_depend_on_the_longest_row_each_is_alone(folder: Path) -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
    rope = {"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 64, **factors}
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"vocab_size": 49152, "initializer_range": 0.5, "rope_parameters": {**rope, "rope_theta": 1e4}}
    judge = _of(AutoModelForCausalLM.from_config(LlamaConfig(**shape, **special)), folder)
    judge._prompts.of = lambda system, user: ((100,), tuple(range(101, 100 + int(user))))
    short, long = (harness.Generate("", n, 12) for n in ("30", "60"))
    assert next(iter(judge.generate([short, long]))) == next(judge.generate([short]))
    choices = [harness.Choose("", n, ("Yes", "No")) for n in ("58", "65")]
    assert next(iter(judge.choose(choices))) == next(judge.choose(choices[:1]))


def _of(model: Any, folder: Path) -> Local:
    """A judge with another model's weights, beside the same tokenizer."""
    own = folder / model.config.model_type
    shutil.copytree(folder, own, ignore=shutil.ignore_patterns("model*", "config.json"), dirs_exist_ok=True)
    model.save_pretrained(own)
    return Local(LocalConfig(str(own), device="cpu"))


def test_it_conforms(folder: Path) -> None:
    findings = check_judge(lambda: Local(LocalConfig(str(folder), device="cpu")))
    raise_problems(findings)
    assert all(finding.outcome == "holds" for finding in findings)
