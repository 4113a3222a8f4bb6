"""Settings: the published values, and an error for each way to get them wrong."""

import os
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nmg.base.errors import UserError, bad_input
from nmg.config import Config, load_config
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.policies.attention import AttentionSettings

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = [
    f"{data}-{model}" for data in ("squad", "newsqa", "emrqa", "chemprot", "imdb") for model in ("bert", "distilbert")
]
QA = ("squad", "newsqa", "emrqa")


# ---- the files of configs/


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_loads_and_says_what_it_is(path: Path):
    config = load_config(path)
    first, *_, command = [line for line in path.read_text().split("\n\n")[0].splitlines() if line.startswith("#")]
    assert len(first) > 30
    assert "nmg " in path.read_text().split("\n\n")[0], command
    assert config.data.train is None, "data belongs to the user"


def test_the_published_files_are_all_there():
    ours = {"chemprot-minilm", "qamr-minilm", "demo", "chemprot-frozen", "bbc-frozen"}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*PUBLISHED, *ours}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name: str):
    """By hand, from the run scripts of the original."""
    config, (data, model) = load_config(CONFIGS / f"{name}.yaml"), name.split("-")
    is_qa, is_bert = data in QA, model == "bert"

    assert config.model.name == ("bert-base-uncased" if is_bert else "distilbert-base-uncased")
    assert config.data.task == ("qa" if is_qa else "classification")
    assert config.masking.rate == 0.05
    assert (config.adapt.learning_rate, config.adapt.epochs, config.adapt.weight_decay) == (2e-5, 3, 0.0)
    assert config.adapt.max_grad_norm == 1.0
    assert config.adapt.block_size == (510 if is_qa else 254)
    batch = {(True, True): 4, (True, False): 8, (False, True): 8, (False, False): 16}[is_qa, is_bert]
    assert config.adapt.batch_size == config.finetune.batch_size == batch
    assert config.runtime.evaluation_batch_size == 4 * batch
    assert (config.finetune.learning_rate, config.finetune.epochs) == ((3e-5, 1) if is_qa else (2e-5, 5))
    if is_qa:
        windows = (config.finetune.stride, config.finetune.max_question_length, config.finetune.max_answer_length)
        assert (config.finetune.max_length, *windows) == (384, 128, 64, 30)
    else:
        assert config.finetune.max_length == {"chemprot": 128, "imdb": 256}[data]
    assert (config.meta.episodes, config.meta.contexts, config.meta.examples) == (1000, 200, 1000)
    learner = config.learner
    assert (learner.self_play, config.meta.continual, config.meta.reset) == ("learning", True, False)
    assert learner.learning_starts == (2000 if is_qa else 500)
    assert (learner.replay_capacity, learner.updates_per_episode, learner.batch_size) == (50_000, 10, 64)
    assert (learner.learning_rate, learner.entropy_coef) == (1e-4, 0.01)
    assert (config.policy.kind, learner.kind) == ("attention", "actor-critic")

    tested = config.for_meta_test()
    assert (tested.adapt.epochs, tested.masking.rate) == (3, 0.05)
    assert tested.finetune.epochs == (2 if is_qa else 3)
    assert tested.finetune.batch_size == (6 if is_bert else 8)


def test_the_defaults_are_the_published_setting_of_chemprot_with_bert_but_for_how_masks_are_learned():
    published, config = load_config(CONFIGS / "chemprot-bert.yaml"), Config()
    learned = {name: getattr(config, name) for name in ("policy", "learner", "meta")}
    of_the_file = {"data": config.data, "test": config.test, "runtime": config.runtime}
    assert published.model_copy(update=of_the_file | learned) == config
    assert published.meta.model_copy(update={"continual": False}) == config.meta
    assert (config.policy.kind, config.learner.kind) == ("linear", "experiment")


def test_defaults_that_no_published_file_states():
    config, policy, learner = Config(), AttentionSettings(), ActorCriticSettings()
    assert (config.masking.mask_replace_prob, config.masking.random_replace_prob) == (0.8, 0.1)
    assert (config.masking.span_p, config.masking.span_max) == (0.2, 10)
    assert (config.meta.validation_fraction, config.meta.max_validation_examples) == (0.1, 10_000)
    assert config.meta.checkpoint_every == 50
    assert (learner.replay_max_states, learner.replay_weighting) == (5000, "advantage")
    assert (policy.hidden, learner.weight_decay, learner.max_grad_norm) == (128, 0.0, 1.0)
    assert (learner.value_coef, learner.importance_ratio) == (0.25, True)
    assert (learner.objective, learner.reward) == ("actor-critic", "sign")
    for name in PUBLISHED:
        published = load_config(CONFIGS / f"{name}.yaml")
        assert published.policy == policy
        assert published.learner == learner.model_copy(update={"learning_starts": published.learner.learning_starts})


# ---- reading


def test_an_empty_file_gives_the_defaults(load):
    assert load("") == load("# nothing\n") == Config()


def test_a_section_whose_fields_are_all_commented_out(load):
    text = "data:\n  # train: a.jsonl\nmasking:\n  rate: 0.1\n"
    assert load(text).data == Config().data
    assert load(text, "--data.train", "b.jsonl").data.train == "b.jsonl"


def test_yaml_round_trip(load):
    config = load("adapt: {learning_rate: 3e-5}\nruntime: {trackers: []}\ndata: {train: 'häuser: #1.jsonl'}\n")
    assert load(config.to_yaml()) == config
    assert load(Config().to_yaml()) == Config()


@given(
    learning_rate=st.floats(1e-12, 1e12),
    seed=st.integers(0, 2**63),
    train=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])),
)
def test_yaml_round_trip_of_any_value(learning_rate: float, seed: int, train: str | None):
    values = {"run": {"seed": seed}, "adapt": {"learning_rate": learning_rate}, "data": {"train": train}}
    config = Config.model_validate(values)
    assert Config.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().run.seed = 3


# ---- overrides


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("--masking.rate", "0.2"), "masking.rate", 0.2),
        (("--masking.rate=0.2",), "masking.rate", 0.2),
        (("--adapt.learning_rate", "2e-4"), "adapt.learning_rate", 2e-4),
        (("--adapt.batch-size", "3"), "adapt.batch_size", 3),
        (("--adapt.batch_size", "3", "--adapt.batch_size=4"), "adapt.batch_size", 4),
        (("--data.train", "a=b.jsonl"), "data.train", "a=b.jsonl"),
        (("--data.train=a=b.jsonl",), "data.train", "a=b.jsonl"),
        (("--data.train", "null"), "data.train", None),
        (("--data.train=",), "data.train", None),
        (("--meta.continual", "false"), "meta.continual", False),
        (("--meta.reset=true",), "meta.reset", True),
        (("--runtime.trackers", "[tensorboard, wandb]"), "runtime.trackers", ("tensorboard", "wandb")),
        (("--runtime.trackers=[]",), "runtime.trackers", ()),
        (("--adapt.lora.rank", "8"), "adapt.lora.rank", 8),
        (("--adapt.lora.targets", "[query, 1]"), "adapt.lora.targets", ("query", "1")),
    ],
)
def test_overrides(load, words: tuple[str, ...], field: str, value: object):
    config = load("data: {train: old.jsonl}\nmasking:\n  rate: 0.1\n", *words)
    assert attrgetter(field)(config) == value


TEXTS = ("4", "04", "1e3", "1.0", "no", "true", "2024-01-01", "2020-13-45", "0x1F", "1_000", "12:30:45")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", ["train", "corpus", "text_field", "label_field", "pair_field"])
def test_text_stays_text(load, text: str, field: str):
    """Whatever else YAML would read: a number, a boolean, a date."""
    assert getattr(load("", f"--data.{field}", text).data, field) == text
    if text != "2020-13-45":  # a file with a date that does not exist is not valid YAML
        assert getattr(load(f"data:\n  {field}: {text}\n").data, field) == text
    assert getattr(load(f"data:\n  {field}: '{text}'\n").data, field) == text


@pytest.mark.parametrize("text", ["a: b", "{x}", "[a].jsonl", "*.txt", "@user", "%a", "a #b", "#label", " label", "a:"])
def test_a_word_of_the_command_line_for_a_text_is_not_read_as_yaml(load, text: str):
    assert load("", f"--data.train={text}").data.train == text


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_any_word_can_be_a_text(text: str):
    field = load_config(None, [f"--data.label_field=x{text}"]).data.label_field
    assert field == f"x{text}"


def test_text_in_lists_and_unions(load):
    assert load("masking: {keywords: [1, no, aspirin]}\n").masking.keywords == ("1", "no", "aspirin")
    assert load("", "--masking.keywords", "[1, no, aspirin]").masking.keywords == ("1", "no", "aspirin")
    assert load("", "--masking.keywords", "123").masking.keywords == "123"
    assert load("", "--masking.keywords", "null").masking.keywords is None


def test_other_types_are_read_as_before(load):
    config = load("meta: {parallel_episodes: 2}\nruntime: {keep_memory: no}\n", "--runtime.processes", "3")
    assert (config.meta.parallel_episodes, config.runtime.keep_memory, config.runtime.processes) == (2, False, 3)
    assert load("", "--runtime.keep_memory", "auto").runtime.keep_memory == "auto"


def test_an_override_leaves_the_rest_of_its_section(load):
    config = load("adapt: {epochs: 7, batch_size: 2}\n", "--adapt.epochs", "1")
    assert (config.adapt.epochs, config.adapt.batch_size) == (1, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--masking.rate",), "--masking.rate needs a value"),
        (("--masking.rate", "--adapt.epochs", "2"), "--masking.rate needs a value"),
        (("--masking.rate", "1.5"), "--masking.rate: Input should be less than 1 (given: 1.5)"),
        (("--masking.rat", "0.1"), "--masking.rat: there is no such setting; did you mean '--masking.rate'?"),
        (("--maskng.rate", "0.1"), "--maskng.rate: there is no such setting; did you mean '--masking.rate'?"),
        (("--masking.rate", "[a"), "--masking.rate: cannot read the value '[a'"),
        (("--masking.rate", "2020-13-45"), "--masking.rate: cannot read the value '2020-13-45'"),
        (("--data.train", "a\x1b"), "--data.train: cannot read the value 'a\x1b'"),
        (
            ("--masking.mask_replace_prob", "0.95"),
            "--masking.mask_replace_prob: the sum of mask_replace_prob 0.95 and random_replace_prob 0.1 exceeds 1",
        ),
        (
            ("--learner.self_play", "chess", "--learner.kind=actor-critic"),
            "--learner.self_play: Input should be 'learning', 'frozen' or 'random'",
        ),
        (
            ("--learner.self-pley", "chess", "--learner.kind=actor-critic"),
            "--learner.self_pley: there is no such setting; did you mean '--learner.self_play'?",
        ),
        (
            ("--learner.self-play", "frozen"),
            "--learner.self_play: there is no such setting; it belongs to learner.kind actor-critic",
        ),
        (("--adapt.lora.rank", "-1"), "--adapt.lora.rank: Input should be greater than or equal to 0 (given: -1)"),
        (("--adapt.lora.rnk", "8"), "--adapt.lora.rnk: there is no such setting; did you mean '--adapt.lora.rank'?"),
        (("--adapt.lora", "8"), "--adapt.lora: must contain fields (given: 8)"),
        (("--adapt.epochs.rank", "8"), "--adapt.epochs.rank: 'epochs' is not a section in the configuration file"),
        (
            ("--learner.candidates=4",),
            "--learner.candidates: there is no such setting; it belongs to learner.kind evolution and random-search",
        ),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(problem, words: tuple[str, ...], said: str):
    message = problem("adapt: {epochs: 2}\n", *words)
    assert message.startswith(said)
    assert "run.yaml" not in message


@pytest.mark.parametrize("word", ["train.jsonl", "--out", "--a.b.c.d", "-x"])
def test_a_word_that_is_no_setting(problem, word: str):
    assert problem("", word, "1") == (
        f"'{word}' is neither an option of this command nor a setting '--section.field value'"
    )


def test_an_override_into_a_value(problem):
    assert problem("masking: 5\n", "--masking.rate", "0.1") == (
        "--masking.rate: 'masking' is not a section in the configuration file"
    )


# ---- errors in a file


@pytest.mark.parametrize(
    ("text", "line", "field", "said"),
    [
        ("run:\n  seed: 1\nmaskng: {}\n", 3, "maskng", "there is no such setting; did you mean 'masking'?"),
        (
            "masking:\n  rate: 0.1\n  raet: 0.2\n",
            3,
            "masking.raet",
            "there is no such setting; did you mean 'masking.rate'?",
        ),
        ("run:\n  xyzzy: 1\n", 2, "run.xyzzy", "there is no such setting (known: seed)"),
        ("masking: 5\n", 1, "masking", "must contain fields (given: 5)"),
        ("\n# rates\nmasking:\n  rate: 1.5\n", 4, "masking.rate", "Input should be less than 1 (given: 1.5)"),
        ("masking: {rate: 0}\n", 1, "masking.rate", "Input should be greater than 0 (given: 0)"),
        ("adapt:\n  learning_rate: .inf\n", 2, "adapt.learning_rate", "Input should be a finite number (given: inf)"),
        ("adapt:\n  learning_rate: .nan\n", 2, "adapt.learning_rate", "Input should be"),
        ("adapt:\n  epochs: -1\n", 2, "adapt.epochs", "Input should be greater than or equal to 0 (given: -1)"),
        ("adapt:\n  epochs: 1.5\n", 2, "adapt.epochs", "Input should be a valid integer"),
        ("adapt:\n  epochs: many\n", 2, "adapt.epochs", "Input should be a valid integer"),
        ("adapt:\n  epochs: yes\n", 2, "adapt.epochs", "Input should be a number (given: True)"),
        (
            "data:\n  labelled_per_class: 0\n",
            2,
            "data.labelled_per_class",
            "Input should be greater than or equal to 1",
        ),
        ("finetune:\n  max_length: 4\n", 2, "finetune.max_length", "Input should be greater than or equal to 8"),
        ("data:\n  train: [5]\n", 2, "data.train", "Input should be a valid string (given: [5])"),
        ("meta:\n  continual: maybe\n", 2, "meta.continual", "Input should be a valid boolean"),
        ("data:\n  task: chess\n", 2, "data.task", "there is no task 'chess' (known: classification, "),
        ("runtime:\n  trackers: [[]]\n", 2, "runtime.trackers", "Input should be a valid string (given: [])"),
        (
            "runtime:\n  trackers: [wandb, tensorbord]\n",
            2,
            "runtime.trackers",
            "must be one of tensorboard, wandb, trackio, mlflow, aim, clearml, comet_ml, dvclive, "
            "swanlab (given: 'tensorbord')",
        ),
        (
            "masking:\n  mask_replace_prob: 0.9\n  random_replace_prob: 0.2\n",
            1,
            "masking",
            "the sum of mask_replace_prob 0.9 and random_replace_prob 0.2 exceeds 1",
        ),
        ("adapt:\n  lora:\n    rank: 1.5\n", 3, "adapt.lora.rank", "Input should be a valid integer"),
        ("adapt:\n  lora: 8\n", 2, "adapt.lora", "must contain fields (given: 8)"),
        ("run: {}\nrun:\n  seed: 1\n", 2, "run", "duplicate key. Remove all but one."),
        ("run:\n  seed: 1\n  seed: 2\n", 3, "run.seed", "duplicate key. Remove all but one."),
        ("run:\n\tseed: 1\n", 2, None, "is not valid YAML: found character '\\t' that cannot start any token"),
        ("run: {seed: 1\n", 2, None, "is not valid YAML: expected ',' or '}', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", 2, None, "is not valid YAML: but found another document"),
        ("data: !!python/object:os.system {}\n", 1, None, "is not valid YAML: could not determine a constructor"),
        ("run: {seed: 2020-13-45}\n", None, None, "is not valid YAML: month must be in 1..12"),
        ("- a\n- b\n", None, None, "must contain sections with fields, e.g. 'masking: {rate: 0.05}'"),
        ("[]\n", None, None, "must contain sections with fields"),
        ("0\n", None, None, "must contain sections with fields"),
    ],
)
def test_an_error_names_file_line_and_field(
    problem, tmp_path: Path, text: str, line: int | None, field: str | None, said: str
):
    message = problem(text)
    assert message.startswith(str(bad_input(tmp_path / "run.yaml", said, line=line, field=field)))
    assert "\n" not in message


def test_all_problems_are_told_at_once(problem, tmp_path: Path):
    message = problem("adapt:\n  epochs: x\nrun:\n  seed: -1\n", "--masking.rate", "2")
    file = tmp_path / "run.yaml"
    lines = sorted(message.splitlines())
    assert len(lines) == 3
    assert lines[0].startswith("--masking.rate: ")
    assert lines[1].startswith(f"{file}, line 2, field 'adapt.epochs': ")
    assert lines[2].startswith(f"{file}, line 4, field 'run.seed': ")


def test_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot read the configuration: No such file"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="cannot read the configuration: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("data: {train: häuser}".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: cannot read the configuration: it is not UTF-8 text"):
        load_config(tmp_path / "latin.yaml")


@given(st.text())
def test_any_text_loads_or_is_a_user_error(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    config = None
    with suppress(UserError):
        config = load_config(path)
    assert config is None or config == Config.model_validate(yaml.safe_load(config.to_yaml()))


# ---- kinds of policy and learner

SELF_PLAY = "learner:\n  kind: actor-critic\n  self_play: frozen\n  updates_per_episode: 3\n"
POLICIES = "attention, linear"
LEARNERS = "actor-critic, evolution, experiment, random-search, rule-search"


def test_a_section_without_a_kind_is_of_the_default_one(load):
    config = load("policy: {temperature: 3}\nlearner: {budget: 30}\n")
    assert (config.policy.kind, config.policy.temperature) == ("linear", 3)
    assert (config.learner.kind, config.learner.budget) == ("experiment", 30)


def test_a_section_is_of_the_kind_it_names(load):
    config = load("policy: {kind: attention, hidden: 3}\n" + SELF_PLAY)
    assert (config.policy.kind, config.policy.hidden) == ("attention", 3)
    assert (config.learner.kind, config.learner.self_play, config.learner.updates_per_episode) == (
        "actor-critic",
        "frozen",
        3,
    )


@pytest.mark.parametrize(("section", "known"), [("learner", LEARNERS), ("policy", POLICIES)])
def test_an_unknown_kind_is_told_with_the_known_ones(problem, tmp_path: Path, section: str, known: str):
    said = f"unknown kind 'magic' (known: {known})"
    message = problem(f"run: {{}}\n{section}:\n  kind: magic\n  x: 1\n")
    assert message == str(bad_input(tmp_path / "run.yaml", said, line=3, field=f"{section}.kind"))
    message = problem(f"{section}:\n  x: 1\n\n  kind: null\n")
    said = f"unknown kind 'None' (known: {known})"
    assert message == str(bad_input(tmp_path / "run.yaml", said, line=4, field=f"{section}.kind"))
    assert problem("", f"--{section}.kind", "magic") == f"--{section}.kind: unknown kind 'magic' (known: {known})"
    assert problem("", f"--{section}.kind", "magic").count("kind:") == 1


@pytest.mark.parametrize(
    ("section", "kind", "field", "said"),
    [
        ("learner", "actor-critic", "learning_strats", "; did you mean 'learner.learning_starts'?"),
        ("learner", "random-search", "canddates", "; did you mean 'learner.candidates'?"),
        ("learner", "random-search", "xyzzy", " (known: kind, candidates, std)"),
        ("learner", "experiment", "self_play", "; it belongs to learner.kind actor-critic"),
        ("learner", "random-search", "budget", "; it belongs to learner.kind experiment and rule-search"),
        (
            "learner",
            "actor-critic",
            "std",
            "; it belongs to learner.kind experiment and random-search",
        ),
        ("policy", "linear", "hidden", "; it belongs to policy.kind attention"),
        ("policy", "linear", "xyzzy", " (known: kind, features, credit_rounds, credit_examples, temperature, unit)"),
        ("policy", "attention", "features", "; it belongs to policy.kind linear"),
        ("policy", "attention", "hiden", "; did you mean 'policy.hidden'?"),
    ],
)
def test_a_wrong_field_of_a_kind(problem, tmp_path: Path, section: str, kind: str, field: str, said: str):
    learner = "" if section == "learner" else "learner: {kind: random-search}\n"
    message = problem(f"{section}:\n  kind: {kind}\n\n  {field}: 1\n{learner}")
    said = f"there is no such setting{said}"
    assert message == str(bad_input(tmp_path / "run.yaml", said, line=4, field=f"{section}.{field}"))


def test_a_field_of_another_kind_than_the_default(problem, tmp_path: Path):
    for section, field, owner in (
        ("policy", "hidden", "attention"),
        ("learner", "updates_per_episode", "actor-critic"),
    ):
        said = f"there is no such setting; it belongs to {section}.kind {owner}"
        message = problem(f"{section}:\n  {field}: 3\n")
        assert message == str(bad_input(tmp_path / "run.yaml", said, line=2, field=f"{section}.{field}"))
        assert problem("", f"--{section}.{field}", "3") == f"--{section}.{field}: {said}"


def test_a_wrong_value_of_a_kind_is_named_without_it(problem, tmp_path: Path):
    wrong = problem("meta: {continual: false}\nlearner:\n  kind: random-search\n  candidates: 0\n")
    said = "Input should be greater than or equal to 1 (given: 0)"
    assert wrong == str(bad_input(tmp_path / "run.yaml", said, line=4, field="learner.candidates"))


def test_another_kind_on_the_command_line_drops_the_fields_of_the_files(load):
    words = ("--learner.kind", "random-search")
    assert load(SELF_PLAY, *words).learner == load("", *words).learner
    assert load(SELF_PLAY, "--learner.candidates=2", *words).learner.candidates == 2
    assert load("learner: {budget: 30}\n", *words).learner.candidates == 6
    attention = "policy: {kind: attention, hidden: 3}\n"
    assert load(attention, "--policy.kind", "linear").policy == Config().policy


def test_the_same_kind_on_the_command_line_keeps_them(load):
    assert load(SELF_PLAY, "--learner.kind", "actor-critic").learner.updates_per_episode == 3
    assert load("learner: {budget: 30}\n", "--learner.kind", "experiment").learner.budget == 30
    search = "meta: {continual: false}\nlearner: {kind: random-search, candidates: 3}\n"
    assert load(search, "--learner.kind", "random-search").learner.candidates == 3


# ---- a learner that does not go with another setting


@pytest.mark.parametrize("kind", ["experiment", "rule-search", "evolution", "random-search"])
def test_a_learner_without_leader_cannot_be_continual(problem, tmp_path: Path, kind: str):
    said = f"the learner '{kind}' has no player whose LM could start the next episode. Set meta.continual to false."
    published = "meta:\n  episodes: 3\n  continual: true\n" + SELF_PLAY
    file = tmp_path / "run.yaml"
    assert problem(published, "--learner.kind", kind) == f"--learner.kind: {said}"
    message = problem(f"learner: {{kind: {kind}}}\nmeta:\n  episodes: 3\n  continual: true\n")
    assert message == str(bad_input(file, said, line=4, field="meta.continual"))
    assert problem(f"learner: {{kind: {kind}}}\n", "--meta.continual=true") == f"--meta.continual: {said}"
    both = problem("", "--learner.kind", kind, "--meta.continual=true")
    assert both == f"--learner.kind, --meta.continual: {said}"


def test_the_default_learner_cannot_be_continual_either(problem, tmp_path: Path):
    message = problem("meta:\n  continual: true\n")
    assert message.startswith(f"{tmp_path / 'run.yaml'}, line 2, field 'meta.continual': the learner 'experiment' has")
    assert problem("", "--meta.continual", "true").startswith("--meta.continual: the learner 'experiment' has no")


@pytest.mark.parametrize("kind", ["experiment", "rule-search"])
def test_a_learner_of_features_refuses_another_policy(problem, tmp_path: Path, kind: str):
    said, file = f"the learner '{kind}' needs policy.kind linear", tmp_path / "run.yaml"
    learner, attention = f"learner:\n  kind: {kind}\n", "policy:\n  hidden: 3\n  kind: attention\n"
    for text, line in ((attention + learner, 3), (learner + attention, 5)):
        assert problem(text) == str(bad_input(file, said, line=line, field="policy.kind"))
    assert problem(learner, "--policy.kind", "attention") == f"--policy.kind: {said}"
    assert problem("policy: {kind: attention}\n" + SELF_PLAY, f"--learner.kind={kind}") == f"--learner.kind: {said}"


def test_the_default_learner_refuses_another_policy_too(problem, tmp_path: Path):
    said = "the learner 'experiment' needs policy.kind linear"
    message = problem("run: {}\npolicy:\n  kind: attention\n")
    assert message == str(bad_input(tmp_path / "run.yaml", said, line=3, field="policy.kind"))


def test_the_actor_critic_learns_single_tokens(problem, load, tmp_path: Path):
    said = "the learner 'actor-critic' learns only single tokens. Set policy.unit to token."
    text = "policy:\n  kind: attention\n  unit: word\nlearner:\n  kind: actor-critic\n"
    assert problem(text) == str(bad_input(tmp_path / "run.yaml", said, line=3, field="policy.unit"))
    assert load("policy: {kind: attention, unit: word}\nlearner: {kind: evolution}\n").policy.unit == "word"


def test_a_learner_of_features_needs_idf_among_them(problem, load, tmp_path: Path):
    said = "the learner 'experiment' needs idf in policy.features"
    message = problem("policy:\n  features: [digit, domain]\n")
    assert message == str(bad_input(tmp_path / "run.yaml", said, line=2, field="policy.features"))
    assert problem("", "--policy.features", "[digit]") == f"--policy.features: {said}"
    assert load("policy:\n  features: [digit, idf]\n").policy.features == ("digit", "idf")
    assert load("policy: {features: [digit]}\nlearner: {kind: evolution}\n").policy.features == ("digit",)


def test_every_policy_goes_with_the_published_learner(load):
    for kind in ("attention", "linear"):
        for continual in ("true", "false"):
            words = (f"--policy.kind={kind}", f"--meta.continual={continual}")
            assert load(SELF_PLAY, *words).learner.self_play == "frozen"


# ---- files that nobody means well

BILLIONS = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 10_000, "it is nested more than 20 levels deep"),
        ("[" * 10_000 + "]" * 10_000, "it is nested more than 20 levels deep"),
        ("{a: " * 10_000, "it is nested more than 20 levels deep"),
        ("\n".join(" " * n + "a:" for n in range(500)), "it is nested more than 20 levels deep"),
        (BILLIONS, "it contains more than 10000 values"),
        ("a: &a [*a]\n", "it is nested more than 20 levels deep"),
        ("a: &a {<<: *a}\n", "it is nested more than 20 levels deep"),
        ("run: {seed: !!bool maybe}\n", "a value does not match its tag"),
        ("run: {seed: !!int ''}\n", "a value does not match its tag"),
        ("run: {seed: !!timestamp x}\n", "a value does not match its tag"),
        ("run: {seed: !!float x}\n", "could not convert string to float"),
    ],
    ids=["open", "closed", "mappings", "block", "aliases", "self", "merge", "bool", "int", "timestamp", "float"],
)
def test_a_text_that_stands_for_more_than_a_configuration(problem, text: str, said: str):
    assert f": is not valid YAML: {said}" in problem(text)
    if "\n" not in text:
        assert problem("", "--masking.rate", text) == f"--masking.rate: cannot read the value '{text}'"


def test_aliases_within_reason_are_read(load):
    config = load("adapt: &long {learning_rate: 3e-5}\nfinetune: {<<: *long, epochs: 2}\n")
    assert (config.adapt.learning_rate, config.finetune.learning_rate, config.finetune.epochs) == (3e-5, 3e-5, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1: {}\n", "the name of a section must be a word, not 1"),
        ("null: {}\n", "the name of a section must be a word, not None"),
        ("run: {seed: 0x" + "f" * 8000 + "}\n", "field 'run.seed': Input should be less than"),
        ("adapt: {epochs: 9223372036854775808}\n", "Input should be less than or equal to 9223372036854775807"),
        ("run: {seed: " + "[" * 18 + "]" * 18 + "}\n", "field 'run.seed': Input should be"),
        ("run: {? " + "x" * 100_000 + " : 1}\n", "there is no such setting"),
        ("x" * 300_000, "is larger than 262144 bytes"),
    ],
    ids=["number", "null", "digits", "count", "nested", "long name", "long"],
)
def test_odd_names_and_values(problem, text: str, said: str):
    message = problem(text)
    assert said in message
    assert len(message) < 3000


def test_a_pipe_is_no_configuration(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="it is a device or a pipe"):
        load_config(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="is not a valid file name"):
        load_config(tmp_path / "a\0b.yaml")


def test_a_built_in_configuration_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("chemprot-frozen")).meta.contexts == 1120
    with pytest.raises(
        UserError, match=r"neither a file nor a built-in configuration 'bbc-frozn'. Did you mean bbc-frozen\?"
    ):
        load_config(Path("bbc-frozn"))
    with pytest.raises(UserError, match=r"Built in: bbc-frozen, .*chemprot-frozen"):
        load_config(Path("xyz"))
    Path("chemprot-frozen").write_text("run: {seed: 7}\n")
    assert load_config(Path("chemprot-frozen")).run.seed == 7, "a file of that name comes first"
