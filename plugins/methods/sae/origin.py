"""The place that a pretrained SAE was made for, as its config states it, and whether a site here is that place.

Places are hooks of TransformerLens (`blocks.3.hook_resid_pre`) or modules of transformers (`model.layers.3`), models go
by one of several names. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import harness
from harness.plugins.methods.sae import PretrainedSAEConfig, saelens

NOT_STATED = "not stated"
_HOOK = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_post|mlp_out|attn_out)")
_MODULE = re.compile(r"(?:.*\.)?(?:layers|layer|blocks|h)\.(\d+)(?:\.(\w+))?")
_OF_MODULE: dict[str | None, str] = {
    None: "resid_post",
    **dict.fromkeys(("mlp", "feed_forward"), "mlp_out"),
    **dict.fromkeys(("attn", "attention", "self_attn", "self_attention"), "attn_out"),
}
_NORMS_OUTPUTS = re.compile(r"gemma-?[23]|olmo-?2")
"""Models that normalise what attention and MLP give before it is added: there the module's output is no site."""
_NAMES = {"gpt2small": "gpt2"}
"""Names of TransformerLens that differ from those of the hub by more than hyphens."""
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_QUANTISED = ("load_in_8bit", "load_in_4bit", "quantization_config")


@dataclass(frozen=True)
class SAEOrigin:
    """The place that a config states; what it does not state is None."""

    model: str | None = None
    hook: str | None = None
    head: int | None = None
    """The attention head that alone is read."""
    context: int | None = None
    has_bos: bool = False
    """True if a token that begins the text stood before each context."""
    loading: Mapping[str, Any] = field(default_factory=dict)
    """The parameters that the model was loaded with."""
    is_free: bool = False
    """True if the SAE is wanted at other places too."""

    @property
    def words(self) -> str:
        stated = [self.model, self.hook, None if self.head is None else f"head {self.head}", self._checkpoint]
        place = " ".join(part for part in stated if part) or NOT_STATED
        return place + (f", contexts of {self.context} tokens" if self.context else "") + (", BOS" * self.has_bos)

    def against(self, place: harness.Place) -> str | None:
        reason = None if self.is_free else self._other_site(place) or self._other_model(place)
        return reason and (
            f"pretrained_sae: it was trained at {self.words}, {reason}. Set elsewhere: true to judge it here all the "
            "same, or label the model by the name above if it is that one"
        )

    def _other_site(self, place: harness.Place) -> str | None:
        if self.hook is None or (self.head is None and place.site in sites(self.hook, self.model or "")):
            return None
        return f"and this is {place.site}"

    def _other_model(self, place: harness.Place) -> str | None:
        if self.model is not None and _plain(self.model) not in set(map(_plain, _names(place))):
            return f"and this is {place.label}"
        if place.parameters.get("weights_seed") is not None:
            return f"and the weights of {place.label} are drawn anew"
        if quantised := [name for name in _QUANTISED if self.loading.get(name)]:
            return f"with weights that were quantised ({quantised[0]})"
        revision = place.parameters.get("revision")
        is_usual = revision in (None, "main") or _COMMIT.fullmatch(str(revision)) is not None
        if self._checkpoint != revision and (self._checkpoint is not None or not is_usual):
            return f"and this is {place.label} at revision {revision or 'main'}"
        return None

    @property
    def _checkpoint(self) -> str | None:
        """The revision of the model, where it is not the usual one."""
        if (step := self.loading.get("checkpoint_value")) is not None:
            return f"step{step}"
        if (number := self.loading.get("checkpoint_index")) is not None:
            return f"checkpoint {number}"
        revision = self.loading.get("revision")
        return None if revision in (None, "main") else str(revision)


def of_config(config: PretrainedSAEConfig) -> SAEOrigin:
    """Read the place that the SAE's own config states."""
    stated = saelens.stated(saelens.find_folder(config))
    hook, layer = stated("hook_name", "hook_point"), stated("hook_layer", "hook_point_layer")
    if hook is not None and layer is not None:
        hook = str(hook).replace("{layer}", str(layer))
    model, context, loading = stated("model_name"), stated("context_size"), stated("model_from_pretrained_kwargs")
    return SAEOrigin(
        model=model and str(model),
        hook=hook and str(hook),
        head=stated("hook_head_index", "hook_point_head_index"),
        context=context,
        has_bos=bool(stated("prepend_bos")),
        loading=loading if isinstance(loading, dict) else {},
        is_free=config.elsewhere,
    )


def sites(hook: str, model: str) -> set[str]:
    """The sites whose rows are those of a hook or module; none where they are at no site."""
    hook = hook.removesuffix(".output").removesuffix(".hook_out")
    if found := _HOOK.fullmatch(hook):
        layer, kind = int(found[1]), found[2]
    elif (found := _MODULE.fullmatch(hook)) and found[2] in _OF_MODULE:
        layer, kind = int(found[1]), _OF_MODULE[found[2]]
        if kind != "resid_post" and _NORMS_OUTPUTS.search(model.lower()):
            return set()
    else:
        return set()
    named = {f"{kind}.{layer}"}
    if kind == "resid_pre" and layer:  # what enters a block is what left the one before
        named.add(f"resid_post.{layer - 1}")
    return named | ({f"resid_pre.{layer + 1}"} if kind == "resid_post" else set())


def _names(place: harness.Place) -> list[str]:
    """The names that a model goes by: label, plugin, and what its parameters name."""
    named = [str(place.parameters[name]) for name in ("path", "name") if place.parameters.get(name)]
    folders = [part.rpartition("--")[2] for path in named for part in PurePath(path).parts if "models--" in part]
    return [place.label, place.model, *named, *folders]


def _plain(name: str) -> str:
    """A model's name without owner or folders, case, and the hyphens that some write and others don't."""
    plain = re.sub(r"[-_ ]", "", PurePath(name).name.lower().removesuffix(".gguf"))
    return _NAMES.get(plain, plain)
