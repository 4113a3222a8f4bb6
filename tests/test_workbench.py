"""How many tokens each kind of model takes."""

import pytest
import torch

from nmg.errors import UserError
from nmg.inner.lm import PretrainedLM
from nmg.workbench import check_length
from support.models import VOCABULARY, tiny_model
from support.tiny import word_tokenizer


def takes(lm: PretrainedLM, length: int) -> bool:
    ids = torch.randint(5, VOCABULARY, (1, length))
    try:
        lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(("kind", "longest"), [("bert", 40), ("distilbert", 40), ("roberta", 39), ("mpnet", 38)])
def test_a_length_is_refused_exactly_where_the_model_fails(kind: str, longest: int):
    """RoBERTa and MPNet count positions from the padding id + 1; the padding id is 0 in one, 1 in the other."""
    tokenizer = word_tokenizer(["one"])
    if kind == "mpnet":
        tokenizer.pad_token = "[UNK]"
    lm = PretrainedLM(kind, tiny_model(kind), tokenizer, ())
    for length in (longest, longest + 1):
        fits = takes(lm, length)
        assert fits == (length <= longest)
        if fits:
            check_length(lm, "finetune.max_length", length)
        else:
            with pytest.raises(UserError, match=rf"finetune\.max_length: {length} .*at most {longest}"):
                check_length(lm, "finetune.max_length", length)
