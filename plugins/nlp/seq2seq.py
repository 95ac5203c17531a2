"""Models that read one text and write another: encoder-decoders of the transformers library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.contract import Structure
from plugins.nlp.ragged import Ragged, padded


class Seq2Seq(nn.Module):
    """An encoder-decoder, with its decoder as head.

    Args:
        backbone: a model of the transformers library that takes `input_ids`, `attention_mask` and
            `decoder_input_ids`, gives `logits`, and can `generate`.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        # torch's fused attention for CPUs multiplies the small matrices of short sentences one by one: backwards, in
        # bfloat16, it takes three times as long as all else of a step.
        backbone.set_attn_implementation("eager")
        decoder = backbone.get_decoder()
        self.structure = Structure(head=[name for name, module in self.named_modules() if module is decoder])

    def forward(self, sources: Ragged, targets: Ragged) -> Tensor:
        """(tokens of `targets`, vocabulary) logits of what follows each token of the targets, which begin with the
        start. Nothing attends to what comes later, nor to padding."""
        tokens, seen = padded(sources)
        begun, known = padded(targets)
        # Real tokens are picked before the widest layer, not behind it.
        output = self.backbone.get_output_embeddings()
        picking = output.register_forward_pre_hook(lambda _, given: (given[0][known],))
        try:
            logits: Tensor = self.backbone(
                input_ids=tokens, attention_mask=seen.long(), decoder_input_ids=begun, use_cache=False
            ).logits
        finally:
            picking.remove()
        return logits

    @torch.no_grad()
    def generate(self, sources: Ragged, beams: int, most: int) -> Tensor:
        """(texts, time) int64: the likeliest tokens, at most `most` after the start, by the library's own search with
        that many beams; of one beam greedily. Other settings are those that the model brings."""
        tokens, seen = padded(sources)
        written: Tensor = self.backbone.generate(
            input_ids=tokens,
            attention_mask=seen.long(),
            num_beams=beams,
            do_sample=False,
            max_new_tokens=most,
            max_length=None,
        )
        return written
