"""The linear policy: its weights as odds, rules among its weights, its folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from nmg.base.errors import UserError
from nmg.base.seeding import stream
from nmg.base.types import TokenBlocks
from nmg.config import load_config
from nmg.data.corpus import Corpus
from nmg.masking.idf import InverseDocumentFrequency, idf_rule, piece_keys
from nmg.policies.base import PolicyContext, log_probabilities, predict
from nmg.policies.features import FEATURES, TypeFeature
from nmg.policies.linear import LinearPolicy, LinearSettings
from nmg.policies.registry import build_policy, load_policy
from nmg.policies.sampling import PolicyMasking, draw_plan

from .helpers import COUNTS, Reader

DEFAULTS = LinearSettings().features
CONSTANT = "continuation"
"""every word of this tokenizer is one token"""


def index(name: str, features: tuple[str, ...] = DEFAULTS) -> int:
    return features.index(name)


def all_blocks(ground: PolicyContext) -> TokenBlocks:
    return ground.corpus.blocks(np.arange(3))


def probabilities(policy: LinearPolicy, blocks: TokenBlocks, encode: Any) -> torch.Tensor:
    logits = predict(policy, policy.observe(blocks, encode), blocks)
    return log_probabilities(logits.double(), blocks.is_maskable).exp()


def test_features_stand_in_the_order_of_the_settings(ground: PolicyContext):
    features = ("loss", "digit", "repeated", "idf")
    policy = build_policy(LinearSettings(features=features), ground)
    blocks = all_blocks(ground)
    seen = policy.raw_features(blocks, ground.encode)
    assert seen.shape == (3, 7, 4)
    assert seen.dtype == torch.float32
    assert seen[0, 1:6, 0].tolist() == [1, 2, 3, 4, 5]
    assert seen[0, 1:6, 1].tolist() == [0, 0, 0, 1, 0]
    assert seen[0, 1:6, 2].tolist() == [0] * 5
    counted = InverseDocumentFrequency.count(ground.corpus, piece_keys)
    idf = np.log(counted(blocks.input_ids[0, 1:6].numpy().astype(np.uint64)))
    torch.testing.assert_close(seen[0, 1:6, 3], torch.from_numpy(idf).float())


def test_features_have_mean_0_and_deviation_1_over_the_corpus(ground: PolicyContext):
    policy = build_policy(LinearSettings(), ground)
    blocks = all_blocks(ground)
    seen = policy.observe(blocks, ground.encode)[blocks.is_maskable].double()
    assert seen.shape == (sum(COUNTS.values()), len(DEFAULTS))
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(len(DEFAULTS)).double(), atol=1e-5, rtol=0)
    constant = [CONSTANT, "repeated"]
    wanted = [0.0 if name in constant else 1.0 for name in DEFAULTS]
    torch.testing.assert_close(seen.std(dim=0, correction=0), torch.tensor(wanted).double(), atol=1e-5, rtol=0)


def test_a_feature_that_is_the_same_all_over_the_corpus_is_its_raw_difference_elsewhere(ground: PolicyContext):
    policy = build_policy(LinearSettings(), ground)
    assert policy.deviation[index(CONSTANT)] == 1
    blocks = ground.corpus.blocks(np.array([0]))
    joined = replace(blocks, word_index=torch.tensor([[-1, 0, 1, 1, 2, 3, -1]]))
    assert policy.observe(joined, ground.encode)[0, :, index(CONSTANT)].tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_features_of_places_are_measured_on_a_sample(ground: PolicyContext, monkeypatch: pytest.MonkeyPatch):
    """Those of pieces on the whole corpus nevertheless."""
    monkeypatch.setattr("nmg.policies.linear.MEASURED_BLOCKS", 1)
    policy = build_policy(LinearSettings(features=("loss", "digit")), ground)
    assert policy.mean[0] == 3  # places 1 to 5 of the first text
    assert policy.deviation[0].item() == pytest.approx(np.sqrt(2))
    assert policy.mean[1].item() == pytest.approx(1 / 13)


def test_a_weight_is_the_log_odds_of_a_deviation(ground: PolicyContext):
    """Twice the temperature, half of it."""
    blocks, digit = ground.corpus.blocks(np.array([0, 1])), index("digit")
    for temperature in (1.0, 2.0):
        policy = build_policy(LinearSettings(temperature=temperature), ground)
        with torch.no_grad():
            policy.weights[digit] = 1.5
        seen = policy.observe(blocks, ground.encode)
        logits = policy.logits(seen, blocks.is_token, blocks.is_maskable)
        assert torch.equal(logits == -torch.inf, ~blocks.is_maskable)
        log_odds = logits[0, 4] - logits[0, 2]  # "42" against "enzyme"
        apart = seen[0, 4, digit] - seen[0, 2, digit]
        assert log_odds.item() == pytest.approx(1.5 * apart.item() / temperature, rel=1e-5)


def test_a_new_policy_masks_uniformly_and_a_strong_one_what_it_likes(ground: PolicyContext):
    policy = build_policy(LinearSettings(), ground)
    policy.reset_parameters()
    blocks = ground.corpus.blocks(np.array([0]))
    torch.testing.assert_close(probabilities(policy, blocks, None)[0, 1:6], torch.full((5,), 0.2).double())
    with torch.no_grad():
        policy.weights[index("digit")] = 50.0
    plan = PolicyMasking(policy, greedy=False).plan(blocks, 0.2, stream(0, "draw"), ground.encode)
    assert plan.positions.tolist() == [[4]]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("exponent", [0.0, 2.0, 5.0, 10.0])
def test_the_rule_idf_is_a_slope(ground: PolicyContext, exponent: float, temperature: float):
    """A draw takes a piece with probability ∝ idf ** exponent: the rule's own, to the draw."""
    policy = build_policy(LinearSettings(temperature=temperature), ground)
    with torch.no_grad():
        policy.weights.fill_(7.0)  # features not named get no weight, whatever they had
    policy.set_slopes({"idf": exponent})
    assert (policy.weights != 0).sum() == (exponent > 0)
    blocks = all_blocks(ground)
    counted = InverseDocumentFrequency.count(ground.corpus, piece_keys)
    weight = counted(blocks.input_ids.numpy().ravel().astype(np.uint64)).reshape(blocks.input_ids.shape) ** exponent
    weight = weight * blocks.is_maskable.numpy()
    wanted = torch.from_numpy(weight / weight.sum(axis=1, keepdims=True))
    torch.testing.assert_close(probabilities(policy, blocks, ground.encode), wanted, rtol=1e-5, atol=1e-7)

    rule = idf_rule(ground.corpus, exponent)
    logits = predict(policy, policy.observe(blocks, ground.encode), blocks)
    for seed in range(20):
        drawn = draw_plan(logits, blocks, 0.4, stream(seed, "draw"))
        by_rule = rule.plan(blocks, 0.4, stream(seed, "draw"))
        assert torch.equal(drawn.positions, by_rule.positions)


def test_a_random_direction_is_as_long(ground: PolicyContext):
    policy = build_policy(LinearSettings(), ground)
    policy.set_slopes({"idf": 3.0, "digit": -2.0})
    before = policy.weights.detach().clone()
    torch.manual_seed(0)
    policy.randomise()
    assert policy.weights.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(policy.weights, before, dim=0)
    assert abs(cosine.item()) < 0.8
    policy.reset_parameters()
    policy.randomise()
    assert not policy.weights.any()


def test_the_lm_is_read_where_a_feature_needs_it_and_once(ground: PolicyContext):
    blocks = all_blocks(ground)
    for features, reads in ((DEFAULTS, False), (("idf", "loss", "entropy"), True)):
        policy, reader = build_policy(LinearSettings(features=features), ground), Reader()
        policy.observe(blocks, reader)
        assert policy.reads_lm is reads
        assert PolicyMasking(policy, greedy=True).reads_states is reads
        assert reader.blocks_read == ([0, 1, 2] if reads else [])


def test_it_is_saved_and_loaded_with_its_features(ground: PolicyContext, tmp_path: Path):
    features = ("digit", "repeated", "idf", "entropy")
    policy = build_policy(LinearSettings(temperature=0.5, features=features), ground)
    with torch.no_grad():
        policy.weights.copy_(torch.arange(4))
    policy.save_pretrained(tmp_path / "policy")
    loaded: Any = load_policy(tmp_path / "policy")
    assert isinstance(loaded, LinearPolicy)
    assert loaded.config == policy.config
    assert (loaded.config.temperature, loaded.config.base_model, loaded.config.masking_rate) == (0.5, "tiny", 0.3)
    assert loaded.config.features == features
    assert torch.equal(loaded.weights, policy.weights)
    blocks = all_blocks(ground)
    assert torch.equal(loaded.observe(blocks, ground.encode), policy.observe(blocks, ground.encode))
    loaded.check_fits(hidden_size=99, vocabulary_size=len(ground.tokenizer))
    with pytest.raises(UserError, match="trained for a vocabulary of 15 tokens, but that of the language model has 16"):
        loaded.check_fits(hidden_size=8, vocabulary_size=16)


def test_a_folder_of_before_features_could_be_chosen_loads_as_it_was(ground: PolicyContext, tmp_path: Path):
    """Then idf stood in the table as it is, not its ln."""
    names = ["idf", "punctuation", "digit", "function_word", "continuation", "loss", "entropy"]
    table = torch.rand(15, 4)
    mean, deviation, weights = torch.rand(7), torch.rand(7) + 0.5, torch.rand(7)
    tensors = {"table": table, "mean": mean, "deviation": deviation, "weights": weights}
    facts = {"model_type": "nmg-mask-policy", "kind": "linear", "features": names, "vocabulary_size": 15}
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text(json.dumps(facts))
    save_file(tensors, tmp_path / "policy" / "model.safetensors")
    policy, blocks = load_policy(tmp_path), ground.corpus.blocks(np.array([2]))
    seen = policy.observe(blocks, ground.encode)[0]
    of_place = torch.tensor([[0.0, place, 2 * place] for place in (0, 1, 2, 3, 0)])
    raw = torch.cat([table[blocks.input_ids[0]], of_place], dim=1)
    torch.testing.assert_close(seen, (raw - mean) / deviation)


def test_a_folder_with_an_unknown_feature_is_refused(ground: PolicyContext, tmp_path: Path):
    build_policy(LinearSettings(features=("idf",)), ground).save_pretrained(tmp_path / "policy")
    config = tmp_path / "policy" / "config.json"
    config.write_text(config.read_text().replace('"idf"', '"fame"'))
    with pytest.raises(UserError, match="cannot load the mask policy: there is no feature 'fame'"):
        load_policy(tmp_path / "policy")


def test_settings_know_their_features(tmp_path: Path):
    assert set(DEFAULTS) < set(FEATURES)
    assert sum(isinstance(FEATURES[name], TypeFeature) for name in DEFAULTS) == len(DEFAULTS) - 2
    (tmp_path / "config.yaml").write_text("policy:\n  kind: linear\n  features: [idf, fame]\n")
    with pytest.raises(
        UserError, match=r"line 3, field 'policy\.features': there is no feature 'fame' \(known: idf, frequency, "
    ):
        load_config(tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"--policy\.features: there is no feature 'fame'.* \(given: 'fame'\)"):
        load_config(None, ["--policy.kind=linear", "--policy.features=[fame]"])
    with pytest.raises(ValidationError, match="at least 1 item"):
        LinearSettings(features=())
    config = load_config(None, ["--policy.kind=linear", "--policy.features=[digit, idf]"])
    assert isinstance(config.policy, LinearSettings)
    assert config.policy.features == ("digit", "idf")


def test_a_corpus_of_one_token_makes_a_policy(ground: PolicyContext, tmp_path: Path):
    """Nothing varies: every feature is 0 there, and nothing is infinite."""
    corpus = Corpus.build(["the"], ground.tokenizer, 16, tmp_path / "one")
    policy = build_policy(LinearSettings(features=tuple(FEATURES)), replace(ground, corpus=corpus))
    assert torch.isfinite(policy.table).all()
    assert policy.deviation.tolist() == [1.0] * len(FEATURES)
    blocks = corpus.blocks(np.array([0]))
    seen = policy.observe(blocks, ground.encode)[0, 1]
    torch.testing.assert_close(seen, torch.zeros(len(FEATURES)), atol=1e-4, rtol=0)


def test_default_stands_for_the_default_features():
    assert LinearSettings.model_validate({"features": ["default", "credit"]}).features == (*DEFAULTS, "credit")
    assert LinearSettings.model_validate({"features": ["loss", "default", "idf"]}).features == ("loss", *DEFAULTS)
    config = load_config(None, ["--policy.kind=linear", "--policy.features=[default,credit]"])
    assert config.policy == LinearSettings(features=(*DEFAULTS, "credit"))
