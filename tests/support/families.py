"""Small tokenizers of the three families, trained on the spot, and text in many scripts."""

from collections.abc import Callable, Sequence
from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SCRIPTS = (
    "The inhibitor's dose wasn't (yet) known: 3.5 mg/kg, or so.",
    "Les œufs de Pâques naïfs coûtent 4€ — déjà vu!",
    "Ингибитор связывается с рецептором быстро.",
    "Ο αναστολέας δεσμεύεται στον υποδοχέα.",
    "阿司匹林抑制环氧合酶，减轻疼痛。",
    "アスピリンは酵素を阻害する。",
    "아스피린은 효소를 억제한다.",
    "الأسبرين يثبط الإنزيم بسرعة.",
    "האספירין מעכב את האנזים.",
    "एस्पिरिन एंजाइम को रोकता है।",
    "แอสไพรินยับยั้งเอนไซม์",
    "p53 🧬 binds → DNA 🙂!",
)
"""a sentence of each script"""
BERT_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_SPECIAL = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}


def _word_piece(special: Sequence[str]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(special), show_progress=False)


def _byte_level(special: Sequence[str]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )


def _unigram(special: Sequence[str]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=400, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )


_BUILDERS: dict[str, tuple[dict[str, str], Callable[[Sequence[str]], tuple[Tokenizer, trainers.Trainer]]]] = {
    "WordPiece": (BERT_SPECIAL, _word_piece),
    "byte-level BPE": (ROBERTA_SPECIAL, _byte_level),
    "SentencePiece": (ROBERTA_SPECIAL, _unigram),
}
FAMILIES = tuple(_BUILDERS)


@cache
def family(name: str) -> PreTrainedTokenizerFast:
    """As BERT, RoBERTa and XLM-RoBERTa have them, with some 400 pieces."""
    special, build = _BUILDERS[name]
    tokenizer, trainer = build(list(special.values()))
    tokenizer.train_from_iterator(SCRIPTS * 3, trainer)
    first, last = special["cls"], special["sep"]
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ids)
    names = {f"{role}_token": token for role, token in special.items()}
    inputs = ["input_ids", *(["token_type_ids"] if special is BERT_SPECIAL else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)
