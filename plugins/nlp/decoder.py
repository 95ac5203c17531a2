"""The edit that makes an encoder-decoder of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from core.errors import EditError
from core.seeds import derive_seed, seed_torch
from plugins.nlp import options
from plugins.nlp.encoders import SequenceClassifier, TextEncoder
from plugins.nlp.seq2seq import Seq2Seq


class Decoder:
    """The edit `nlp.decoder`: a transformer decoder (https://arxiv.org/abs/1706.03762) as wide as the encoder, whose
    layers attend to the text so far and to the encoder's states, and whose output weights are its token embeddings
    (https://arxiv.org/abs/1608.05859). The encoder's weights stay; its head is left out. New weights are drawn by
    the edit's options alone."""

    preserves = False

    def __init__(self, options: options.Decoder) -> None:
        self._options = options

    def validate(self, model: nn.Module) -> None:
        if isinstance(model, Seq2Seq):
            raise EditError(
                "decoder: the model has a decoder", "leave the edit out; the base is used as it is"
            )
        if not isinstance(model, TextEncoder | SequenceClassifier):
            raise EditError(
                f"decoder: expected an encoder of nlp.transformers, got {type(model).__name__}",
                "use a base such as BERT, MiniLM or RoBERTa",
            )
        width, heads = _encoder_of(model).config.hidden_size, self._heads(model)
        if width % heads:
            raise EditError(
                f"decoder: {heads} heads do not share a width of {width} evenly", "choose a divisor as heads"
            )

    def apply(self, model: nn.Module) -> nn.Module:
        from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel, GenerationConfig

        o, encoder = self._options, _encoder_of(model)
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # a classifier's, and not used here
        given = encoder.config
        special: dict[str, Any] = {"pad_token_id": o.pad, "bos_token_id": o.start, "eos_token_id": o.end}
        decoder = BertConfig(
            vocab_size=o.vocabulary,
            hidden_size=given.hidden_size,
            num_hidden_layers=o.layers,
            num_attention_heads=self._heads(model),
            intermediate_size=4 * given.hidden_size,
            max_position_embeddings=o.positions,
            hidden_dropout_prob=o.dropout,
            attention_probs_dropout_prob=o.dropout,
            type_vocab_size=1,
            # The library's 0.02 leaves what the encoder says too faint beside the text so far to be learned from soon.
            initializer_range=given.hidden_size**-0.5,
            is_decoder=True,
            add_cross_attention=True,
            **special,
        )
        config = EncoderDecoderConfig.from_encoder_decoder_configs(given, decoder, **special)
        config.decoder_start_token_id = o.start
        with torch.random.fork_rng(devices=[]):
            seed_torch(torch.device("cpu"), derive_seed(0, "decoder", o.model_dump_json()))
            # Made with an encoder of its own, which gives way: handed over, the base's would be initialised anew.
            backbone = EncoderDecoderModel(config)
        backbone.encoder, backbone.config.encoder = encoder, given
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = o.dropout
        backbone.generation_config = GenerationConfig(**special, decoder_start_token_id=o.start)  # type: ignore[no-untyped-call]
        return Seq2Seq(backbone)

    def describe(self) -> str:
        o = self._options
        return f"a new decoder: {o.layers} layers with cross-attention, {o.vocabulary:,} tokens, input and output tied"

    def _heads(self, model: nn.Module) -> int:
        return self._options.heads or max(1, int(_encoder_of(model).config.hidden_size) // 64)


def _encoder_of(model: nn.Module) -> Any:
    """The encoder in a wrapped model."""
    return model.backbone.base_model  # type: ignore[union-attr]
