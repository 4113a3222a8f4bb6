"""How many tokens each kind of model takes, and what it does not know."""

from pathlib import Path

import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config
from nmg.training.lm import PretrainedLM
from nmg.trials.session import ModelSession, check_length
from support.models import VOCABULARY, tiny_model
from support.tiny import save_tiny_bert, word_tokenizer

TEXTS = {"known": "one two three one three two ", "unknown": "\u4f60\u597d \u4e16\u754c"}


@pytest.mark.parametrize("text", TEXTS)
def test_text_of_another_script_is_said(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model = save_tiny_bert(tmp_path / "model", ["one", "two", "three"])
    config = Config.model_validate(
        {"model": {"name": str(model)}, "adapt": {"block_size": 16}, "runtime": {"cache_dir": str(tmp_path)}}
    )
    session = ModelSession.open(config, Silent())
    session.corpus([TEXTS[text]])
    session.corpus([TEXTS[text] * 2])
    said = f"warning: {model}: 100% of the tokens of the text are [UNK], unknown to this model's tokenizer"
    assert [message[: len(said)] for message in caplog.messages] == ([said] if text == "unknown" else [])


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
