"""The head on masked positions only is the head on all of them; what is loaded, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from nmg.base.errors import UserError
from nmg.base.settings import ModelSettings, RuntimeSettings
from nmg.base.types import IGNORED_LABEL, CorruptedBlocks, TokenBlocks
from nmg.training.lm import copy_state, encoder_states, load_pretrained, masked_lm_loss, masked_logits
from nmg.training.lm_reader import LMReader
from nmg.training.runtime import Runtime
from support.models import CONFIGS, VOCABULARY, tiny_model
from support.runs import Inputs, is_same
from support.tiny import save_tiny_bert

SIZES = [(9, 3), (5, 2), (7, 0), (1, 1)]
"""(tokens, masked positions) of each block: one of full length, one with nothing masked, one of a single token"""


def corrupted_blocks(seed: int = 0) -> CorruptedBlocks:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(SIZES), max(n for n, _ in SIZES))
    input_ids = torch.randint(5, VOCABULARY, shape, generator=generator)
    labels = torch.full(shape, IGNORED_LABEL)
    is_token = torch.zeros(shape, dtype=torch.bool)
    for row, (n, k) in enumerate(SIZES):
        chosen = torch.randperm(n, generator=generator)[:k]
        labels[row, chosen] = torch.randint(5, VOCABULARY, (k,), generator=generator)
        is_token[row, :n] = True
    return CorruptedBlocks(input_ids.masked_fill(~is_token, 0), is_token, labels)


def full_logits(model: PreTrainedModel, corrupted: CorruptedBlocks) -> Tensor:
    """[B, T, V]: the head at every position, as transformers runs it."""
    return model(input_ids=corrupted.input_ids, attention_mask=corrupted.is_token.long()).logits


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


# The DeBERTas look for padding where there is no mask.
@pytest.mark.parametrize("kind", sorted(kind for kind in CONFIGS if not kind.startswith("deberta")))
def test_a_step_reads_nothing_from_the_device(kind: str):
    """Else the CPU would wait for a GPU. A tensor on `meta` has no value, so to read one is an error."""
    model, corrupted = tiny_model(kind).to("meta"), corrupted_blocks()
    full = replace(corrupted, is_token=torch.ones_like(corrupted.is_token))  # transformers looks for padding itself
    masked_lm_loss(model, full).backward()
    assert all(p.grad is not None for p in model.get_output_embeddings().parameters())


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_head_on_masked_positions_gives_the_loss_and_gradients_of_the_full_head(kind: str):
    model, corrupted = tiny_model(kind), corrupted_blocks()
    full_loss = cross_entropy(full_logits(model, corrupted).flatten(0, 1), corrupted.labels.flatten())
    full_loss.backward()
    wanted = gradients(model)
    loss = masked_lm_loss(model, corrupted)
    loss.backward()
    assert loss.item() == pytest.approx(full_loss.item(), rel=1e-5)
    found = gradients(model)
    assert set(found) == set(wanted)
    assert len(found) > 10
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-5, atol=1e-5 * scale, msg=name)


@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_come_in_row_major_order(kind: str):
    model, corrupted = tiny_model(kind), corrupted_blocks()
    is_masked = corrupted.labels != IGNORED_LABEL
    with torch.no_grad():
        logits = masked_logits(model, corrupted.input_ids, corrupted.is_token, is_masked)
        wanted = full_logits(model, corrupted)[is_masked]
    assert logits.shape == (6, VOCABULARY)
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-4)


def test_a_batch_without_masks_costs_nothing_and_moves_nothing():
    model, corrupted = tiny_model("bert"), corrupted_blocks()
    nothing = CorruptedBlocks(corrupted.input_ids, corrupted.is_token, torch.full_like(corrupted.labels, -100))
    loss = masked_lm_loss(model, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_the_hook_is_gone_after_a_pass_and_after_an_exception():
    model, corrupted = tiny_model("bert"), corrupted_blocks()
    before = full_logits(model, corrupted)
    masked_lm_loss(model, corrupted)
    assert not model.base_model._forward_hooks
    with pytest.raises(IndexError):
        masked_logits(model, corrupted.input_ids + VOCABULARY, corrupted.is_token, corrupted.labels != IGNORED_LABEL)
    assert not model.base_model._forward_hooks
    assert torch.equal(full_logits(model, corrupted), before)


def token_blocks() -> TokenBlocks:
    corrupted, index = corrupted_blocks(), torch.arange(len(SIZES))
    words = torch.where(corrupted.is_token, 0, -1)
    return TokenBlocks(index, index, corrupted.input_ids, corrupted.is_token, corrupted.is_token, words)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("training", [True, False])
def test_states_are_those_of_the_encoder_in_evaluation_mode(kind: str, training: bool):
    model, blocks = tiny_model(kind), token_blocks()
    with torch.no_grad():
        wanted = model.base_model(input_ids=blocks.input_ids, attention_mask=blocks.is_token.long()).last_hidden_state
    model.train(training)
    states = encoder_states(model, blocks)
    assert torch.equal(states, wanted)
    assert not states.requires_grad
    assert states.dtype == torch.float32
    assert {module.training for module in model.modules()} == {training}


MASK_ID = 4


def reader_of(model: PreTrainedModel, batch_size: int) -> LMReader:
    settings = RuntimeSettings(device="cpu", precision="fp32", evaluation_batch_size=batch_size)
    return LMReader(model, MASK_ID, Runtime.start(settings))


def long_blocks() -> TokenBlocks:
    """Six blocks of 2 to 24 tokens, each between special tokens, one of these also in the midst of the longest."""
    lengths = torch.tensor([12, 24, 3, 8, 17, 2])
    place = torch.arange(24)
    is_token = place < lengths[:, None]
    is_maskable = is_token & (place > 0) & (place < lengths[:, None] - 1)
    is_maskable[1, 11] = False
    ids = torch.randint(5, VOCABULARY, is_token.shape, generator=torch.Generator().manual_seed(1))
    index = torch.arange(len(lengths))
    return TokenBlocks(
        index, index, ids.masked_fill(~is_token, 0), is_token, is_maskable, torch.where(is_maskable, place, -1)
    )


def alone(blocks: TokenBlocks, row: int) -> TokenBlocks:
    """One block, without padding."""
    n, columns = int(blocks.is_token[row].sum()), {name: tensor[row : row + 1] for name, tensor in vars(blocks).items()}
    return TokenBlocks(**{name: column[:, :n] if column.ndim > 1 else column for name, column in columns.items()})


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_a_reader_reads_many_blocks_in_parts(kind: str, batch_size: int):
    reader, blocks = reader_of(tiny_model(kind), batch_size), long_blocks()
    for read, size in ((reader, 16), (reader.surprise, 2)):
        found = read(blocks)
        assert found.shape == (6, 24, size)
        assert found.dtype == torch.float32
        for row in range(len(blocks)):
            wanted = read(alone(blocks, row))[0]
            torch.testing.assert_close(found[row, : len(wanted)], wanted, rtol=1e-4, atol=1e-4)


def slow_surprise(model: PreTrainedModel, blocks: TokenBlocks) -> Tensor:
    """Position by position from the logits of the full model; float [B, T, 2]."""
    found = torch.zeros(*blocks.input_ids.shape, 2)
    for shift in range(7):
        hidden, places = blocks.input_ids.clone(), []
        for row, place in blocks.is_maskable.nonzero().tolist():
            if place % 7 == shift:
                hidden[row, place] = MASK_ID
                places.append((row, place))
        logits = model(input_ids=hidden, attention_mask=blocks.is_token.long()).logits
        for row, place in places:
            probabilities = logits[row, place].double().softmax(dim=0)
            found[row, place, 0] = -probabilities[blocks.input_ids[row, place]].log()
            found[row, place, 1] = -torch.xlogy(probabilities, probabilities).sum()
    return found


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("training", [True, False])
def test_surprise_is_loss_and_entropy_where_every_seventh_token_is_hidden(kind: str, training: bool):
    model, blocks = tiny_model(kind), long_blocks()
    with torch.no_grad():
        wanted = slow_surprise(model, blocks)
    model.train(training)
    found = reader_of(model, 64).surprise(blocks)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found[~blocks.is_maskable] == 0).all()
    assert (found[blocks.is_maskable] > 0).all()
    assert not found.requires_grad
    assert {module.training for module in model.modules()} == {training}


def test_a_copied_state_does_not_follow_the_model():
    model = tiny_model("bert")
    state = copy_state(model)
    wanted = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert is_same(state, wanted)
    model.load_state_dict(state)
    assert is_same(copy_state(model), wanted)


def test_minilm_lacks_exactly_its_head(minilm: Path):
    torch.manual_seed(0)
    lm = load_pretrained(ModelSettings(name=str(minilm)))
    names = {name for name, _ in lm.model.named_parameters()}
    head = {name for name in names if name.startswith("cls.")}
    assert head == {
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias",
    }
    assert set(lm.new_parameters) & names == head
    # Beyond these only second names of tied weights may be listed.
    assert set(lm.new_parameters) - names <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    assert lm.hidden_size == 384
    encoder = load_file(minilm / "model.safetensors")
    state = lm.model.base_model.state_dict()
    assert torch.equal(state["embeddings.word_embeddings.weight"], encoder["embeddings.word_embeddings.weight"].float())


def test_a_whole_checkpoint_lacks_nothing(inputs: Inputs):
    assert load_pretrained(ModelSettings(name=str(inputs.model))).new_parameters == ()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return save_tiny_bert(tmp_path / "model", ["one", "two"], hidden=8)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_pretrained(ModelSettings(name=str(folder)))
    return str(error.value)


def test_a_tokenizer_without_mask_token_is_refused(model_folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(model_folder)
    assert "has no mask token" in refusal(model_folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    assert f"'{tmp_path / 'no'}'" in refusal(tmp_path / "no")


def test_a_folder_without_model_is_refused(model_folder: Path):
    (model_folder / "model.safetensors").unlink()
    assert "from the folder" in refusal(model_folder)


@pytest.mark.parametrize("damage", ["half", "nonsense"])
def test_a_damaged_checkpoint_is_refused(model_folder: Path, damage: str):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500] if damage == "half" else b"nonsense")
    assert str(model_folder) in refusal(model_folder)


def test_a_damaged_configuration_is_refused(model_folder: Path):
    (model_folder / "config.json").write_text('{"model_type": ')
    assert str(model_folder) in refusal(model_folder)


def test_a_checkpoint_without_its_encoder_is_refused(model_folder: Path):
    weights = model_folder / "model.safetensors"
    kept = {n: t for n, t in load_file(weights).items() if "layer.0.attention.self.query" not in n}
    save_file(kept, weights, metadata={"format": "pt"})
    message = refusal(model_folder)
    assert "lacks weights of its encoder" in message
    assert "query" in message


def test_a_model_without_language_model_is_refused(model_folder: Path, tmp_path: Path):
    """A type of model that has no masked LM."""
    folder = shutil.copytree(model_folder, tmp_path / "other")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8}))
    assert "cannot load a" in refusal(folder)


def test_loading_leaves_the_checkpoint_as_it_is(inputs: Inputs):
    lm = load_pretrained(ModelSettings(name=str(inputs.model)))
    reference = AutoModelForMaskedLM.from_pretrained(inputs.model)
    assert is_same(lm.model, reference)
