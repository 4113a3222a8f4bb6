"""nmg settings: every setting has a type, a default and a meaning; settings complete in a shell."""

import pytest

from nmg.config import Config
from nmg.config.load import setting_names
from nmg.config.reference import section_meanings, settings_reference, settings_within
from support.command import Nmg


def test_every_setting_is_there_with_a_meaning_and_a_type():
    every = settings_reference()
    assert {one.name for one in every} == set(setting_names())
    assert [one.name for one in every if not one.meaning or not one.type] == []
    assert list(section_meanings()) == list(Config.model_fields)


@pytest.mark.parametrize(
    ("name", "type_", "default", "meaning"),
    [
        ("masking.rate", "number > 0, < 1", "0.05", "Fraction of the maskable tokens to mask."),
        ("adapt.lora.rank", "integer ≥ 0", "0", "Rank of the trained matrices; 0 trains the whole model."),
        ("adapt.schedule", "linear | constant | cosine | warmup-stable-decay", "linear", "How the learning rate falls"),
        ("adapt.steps", "integer ≥ 1 | null", "null", "`nmg adapt`: number of steps"),
        ("runtime.threads", "integer ≥ 1 | null", "null", "Number of CPU threads."),
        ("meta.parallel_episodes", "auto | integer ≥ 1", "auto", "Number of episodes"),
        ("learner.strengths", "list of number > 0", "[1, 2, 4]", "Lengths of the learned direction"),
        ("data.drop_duplicates", "true | false", "false", "Whether to remove near duplicates"),
    ],
)
def test_a_setting_by_hand(name: str, type_: str, default: str, meaning: str):
    (found,) = settings_within(name)
    assert (found.type, found.default) == (type_, default)
    assert found.meaning.startswith(meaning)


def test_the_command(nmg: Nmg, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert nmg("settings").out.count("\n") > len(Config.model_fields)
    shown = nmg("settings", "adapt.lora").out
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("│")] == [
        *("adapt.lora.rank", "adapt.lora.alpha", "adapt.lora.dropout", "adapt.lora.targets"),
    ]
    found = nmg("settings", "--find", "MASKING RATE").out
    assert "masking.rate_schedule" in found
    assert "adapt.lora" not in found
    assert "learner.baseline (actor-critic)" in nmg("settings", "learner").out
    assert nmg("settings", "adapt.rank").err == (
        "error: there is no section or setting 'adapt.rank'; did you mean adapt.lora.rank?\n"
    )
    assert nmg("settings", "--find", "xyzzy").code == 2


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("nmg adapt --adapt.lora.", {f"--adapt.lora.{name}" for name in ("rank", "alpha", "dropout", "targets")}),
        ("nmg learn c.yaml --run.", {"--run.seed"}),
        ("nmg learn --re", {"--resume", "--reward.metric", "--reward.evaluation", "--reward.num_replicates"}),
        ("nmg maskings --run.", set()),
    ],
)
def test_settings_complete_in_a_shell(
    typed: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As bash calls it: the words and the place of the last one are in the environment."""
    import typer.main

    from nmg.cli import app

    for name, value in {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_NMG_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        typer.main.get_command(app)(prog_name="nmg", complete_var="_NMG_COMPLETE")
    assert set(capsys.readouterr().out.split()) == expected
