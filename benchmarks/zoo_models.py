"""Small random models of every architecture that masks, and tokenizers of four families, made on the spot."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CONFIG_MAPPING, AutoModelForMaskedLM, PreTrainedTokenizerFast

_TEXT = (
    "the a of and in with patient daily dose drug tumour trial nurse doctor gave took after before week "
    "month small large acute chronic pain heart liver kidney blood sugar level rose fell study showed "
    "found no new treatment cell gene protein binds receptor inhibits growth Berlin Paris Rome London "
    "Madrid aspirin ibuprofen morphine insulin "
)
WORDS = _TEXT.split()
"""of which all texts of the zoo are made"""

_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
_ESM = {"pad": "<pad>", "unk": "<unk>", "cls": "<cls>", "sep": "<eos>", "mask": "<mask>"}


@cache
def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of `FAMILIES`, framed as its best known model does."""
    names, pair = {
        "WordPiece": (_BERT, "[CLS] $A [SEP] $B:1 [SEP]:1"),
        "byte-level BPE": (_ROBERTA, "<s> $A </s> </s> $B </s>"),
        "Unigram": (_ROBERTA, "<s> $A </s> </s> $B </s>"),
        "characters": (_ESM, "<cls> $A <eos> $B <eos>"),
    }[family]
    special = list(names.values())
    backend, trainer = FAMILIES[family](special)
    texts = [" ".join(WORDS[first:] + WORDS[:first]) for first in range(len(WORDS))]
    backend.train_from_iterator(texts, trainer)
    ids = [(token, backend.token_to_id(token)) for token in special]
    first, last = names["cls"], names["sep"]
    backend.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", pair=pair, special_tokens=ids)
    types = ["token_type_ids"] if family == "WordPiece" else []
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", *types, "attention_mask"],
        **{f"{role}_token": token for role, token in names.items()},
    )


def _word_pieces(special: list[str]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)


def _bytes(special: list[str]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )


def _unigram(special: list[str]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False
    )


def _characters(special: list[str]) -> tuple[Tokenizer, trainers.Trainer]:
    """A token a character; a space has none."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    return tokenizer, trainers.WordLevelTrainer(special_tokens=special, show_progress=False)


FAMILIES = {"WordPiece": _word_pieces, "byte-level BPE": _bytes, "Unigram": _unigram, "characters": _characters}
"""how a tokenizer splits text → its parts"""

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 160,
    "embedding_size": 16,
}
_XLM: dict[str, Any] = {"emb_dim": 32, "n_layers": 2, "n_heads": 2}
_SEQ2SEQ: dict[str, Any] = {
    "d_model": 32,
    **{f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")},
    **{f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")},
}
OF_TYPE: dict[str, dict[str, Any]] = {
    "bart": _SEQ2SEQ,
    "big_bird": {"block_size": 4, "num_random_blocks": 1, "attention_type": "block_sparse"},
    "convbert": {"head_ratio": 1, "conv_kernel_size": 3, "embedding_size": 32},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "esm": {"position_embedding_type": "rotary", "token_dropout": True},
    "eurobert": {"num_key_value_heads": 2},
    "flaubert": _XLM,
    "funnel": {"block_sizes": [1, 1], "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 48},
    "longformer": {"attention_window": [16, 16]},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
    "mbart": _SEQ2SEQ,
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
    "mvp": _SEQ2SEQ,
    "nystromformer": {"segment_means_seq_len": 64, "num_landmarks": 64},
    "perceiver": {"d_model": 32, "d_latents": 32, "num_latents": 8, "num_self_attends_per_block": 1}
    | {"num_self_attention_heads": 2, "num_cross_attention_heads": 2},
    "reformer": {"axial_pos_shape": [8, 20], "axial_pos_embds_dim": [16, 16], "is_decoder": False}
    | {"attn_layers": ["local", "local"], "attention_head_size": 16, "local_attn_chunk_length": 16}
    | {"feed_forward_size": 48},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 32},
    "roc_bert": {"pronunciation_vocab_size": 400, "shape_vocab_size": 400},
    "squeezebert": {"embedding_size": 32},
    "ultrabert": {"num_key_value_heads": 2, "head_dim": 16, "prediction_head_size": 32},
    "xlm": _XLM,
    "xmod": {"languages": ["en_XX"]},
}
"""type of model → what its configuration needs beyond `_SIZES`"""

FAMILY_OF: dict[str, str] = {
    **dict.fromkeys(("albert", "big_bird", "camembert", "deberta-v2", "fnet", "nystromformer", "rembert"), "Unigram"),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl", "xmod", "jina_embeddings_v3", "mbart", "reformer"), "Unigram"),
    **dict.fromkeys(("roberta", "roberta-prelayernorm", "longformer", "luke", "ibert", "mra"), "byte-level BPE"),
    **dict.fromkeys(("data2vec-text", "deberta", "modernbert", "eurobert", "bart", "mvp"), "byte-level BPE"),
    **dict.fromkeys(("xlm", "flaubert"), "byte-level BPE"),
    **dict.fromkeys(("esm", "esmc", "perceiver"), "characters"),
}
"""type of model → family of its tokenizer, if it is not WordPiece"""


READ_IMAGES = {"modernvbert", "neomme", "ultravbert"}
"""types that read images too, whose configurations `_SIZES` does not make small"""


def family_of(kind: str) -> str:
    return FAMILY_OF.get(kind, "WordPiece")


def save_model(kind: str, family: str, folder: Path, **changes: Any) -> Path:
    """Save a random masked LM of a type of transformers and its tokenizer.

    Args:
        kind: The type, as a config.json names it.
        family: One of `FAMILIES`.
        folder: Where both are saved.
        changes: Fields of the configuration.

    Returns:
        `folder`.
    """
    tokenizer = tokenizer_of(family)
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep", "mask")}
    ids |= {"bos_token_id": ids["cls_token_id"], "eos_token_id": ids["sep_token_id"]}
    if kind in {"xlm", "flaubert"}:
        ids |= {"pad_index": ids["pad_token_id"], "mask_index": ids["mask_token_id"]}
    given = {"vocab_size": len(tokenizer), **_SIZES, **ids, **OF_TYPE.get(kind, {}), **changes}
    if "block_sizes" in given:  # Funnel counts its layers by blocks
        del given["num_hidden_layers"]
    config = CONFIG_MAPPING[kind](**given)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForMaskedLM.from_config(config, trust_remote_code=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
