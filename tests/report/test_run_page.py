"""The page of a meta-training: numbers by hand, and runs that have not begun, are under way or are long."""

from math import nan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nmg.base.progress import Silent
from nmg.config import Config
from nmg.meta_training import run as meta_training
from nmg.meta_training.log import RunLog, read_run
from nmg.report.document import Document, Notice, Paragraph, Section, ShadedTexts, Verdict
from nmg.report.html import render_html
from nmg.report.learner_parts import warnings
from nmg.report.run_page import run_page
from support.run_logs import (
    LAPS,
    PROBABILITIES,
    TEXTS,
    UPDATE,
    config_of,
    episode,
    log_of,
    search_episode,
    snapshot,
)
from support.runs import Inputs

from .helpers import Drawn, assert_fine, blocks_of, facts_of, tables_of

EVIL = "<script>alert('x')</script>&"


# --- numbers


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("metric", "best"), [("accuracy", "2 (accuracy 70.0)"), ("loss", "3 (loss 0.200)")])
def test_the_best_episode_is_that_of_the_highest_score_or_the_lowest_loss(metric: str, best: str):
    episodes = [episode(0, 0.5), episode(1, 0.7), episode(2, 0.6)]
    for line, loss in zip(episodes, (0.5, 0.9, 0.2), strict=True):
        line["metric"] = metric
        line["scores"]["learner"]["loss"] = loss
    assert facts_of(run_page(log_of(*episodes)))["best episode"] == best


@pytest.mark.usefixtures("undrawn")
def test_facts_of_time():
    """Inner phases lie within the inner loops: an episode takes 3 + 60 + 7 s."""
    facts = facts_of(run_page(log_of(*map(episode, range(4)), planned=10)))
    assert facts["episodes"] == "4 of 10"
    assert (facts["time"], facts["time per episode"], facts["time left, about"]) == ("4.7 min", "70.0 s", "7.0 min")
    slower = [episode(i, seconds=LAPS | {"update": 17.0}) for i in range(4, 14)]
    facts = facts_of(run_page(log_of(*map(episode, range(4)), *slower, planned=15)))
    assert facts["time left, about"] == "80.0 s", "as long as the last ten episodes took"
    assert "time left, about" not in facts_of(run_page(log_of(*map(episode, range(4)), planned=4)))


@pytest.mark.usefixtures("undrawn")
def test_phases_of_time_add_up():
    (rows,) = tables_of(run_page(log_of(*map(episode, range(3)))), "Time")
    assert {name: (row[0], row[2]) for name, row in rows.items()} == {
        "states, masks": ("9.0 s", "3.0 s"),
        "adapt": ("60.0 s", "20.0 s"),
        "fine-tune": ("90.0 s", "30.0 s"),
        "evaluate": ("12.0 s", "4.0 s"),
        "other": ("18.0 s", "6.0 s"),
        "update": ("21.0 s", "7.0 s"),
        "all": ("3.5 min", "70.0 s"),
    }
    assert rows["fine-tune"][1] == "42.9 %"


@pytest.mark.usefixtures("undrawn")
def test_wins_ties_losses_with_a_sign_test():
    """The opponent is counted where it played; before, its reward is the random player's."""
    episodes = [
        episode(0, 0.5, 0.4),
        episode(1, 0.5, 0.4),
        episode(2, 0.5, 0.4, rival=0.6),
        episode(3, 0.5, 0.4, rival=0.6),
        episode(4, 0.5, 0.5, rival=0.6),
        episode(5, 0.5, 0.4, rival=0.4),
        episode(6, 0.5, 0.6, rival=0.6),
    ]
    rows = tables_of(run_page(log_of(*episodes)), "Scores")[0]
    assert rows["against random"][:5] == ("7", "5", "1", "1", "+0.571")
    assert rows["against random"][5] == f"{stats.binomtest(5, 6).pvalue:.3f}"
    assert rows["against opponent"][:5] == ("5", "1", "0", "4", "−0.600")
    assert rows["against opponent"][5] == f"{2 * (1 + 5) / 2**5:.3f}", "counted by hand"
    ties = tables_of(run_page(log_of(episode(0, 0.4, 0.4))), "Scores")[0]
    assert ties == {"against random": ("1", "0", "1", "0", "0.000", "–")}


@pytest.mark.usefixtures("undrawn")
def test_recent_scores_are_over_the_same_episodes_for_all_players():
    """Or an opponent that came late would be compared on other texts."""
    episodes = [episode(0, 0.9, 0.9), episode(1, 0.5, 0.4, rival=0.2), episode(2, 0.7, 0.6, rival=0.4)]
    page = run_page(log_of(*episodes))
    rows = tables_of(page, "Scores")[1]
    assert rows == {"learner": ("60.0", "0.400"), "opponent": ("30.0", "0.700"), "random": ("50.0", "0.500")}
    many = [episode(i, 0.9 if i < 5 else 0.3) for i in range(15)]
    assert tables_of(run_page(log_of(*many)), "Scores")[1]["learner"] == ("30.0", "0.700")


# --- figures


@pytest.mark.parametrize(("metric", "lead"), [("accuracy", 10.0), ("loss", 0.1)])
def test_the_lead_is_positive_where_the_learner_is_better(undrawn: Drawn, metric: str, lead: float):
    """Accuracy 0.5 is better than 0.4, and so is a loss of 0.5 than one of 0.6."""
    run_page(log_of(episode(0, 0.5, 0.4, metric=metric), episode(1, 0.5, 0.4, rival=0.7, metric=metric)))
    leads = undrawn.curves["lead of the learner (above 0 is better)"]
    np.testing.assert_allclose(leads["over random"], [lead, lead])
    np.testing.assert_allclose(leads["over opponent"], [nan, -2 * lead])


@pytest.mark.usefixtures("undrawn")
def test_the_verdict_stands_first_and_warnings_follow():
    page = run_page(log_of(episode(0, 0.5, 0.5)))
    verdict, warning, *_ = page.sections[0].blocks
    assert verdict == Verdict("The run is not finished.", command="nmg learn --resume my-run")
    assert isinstance(warning, Notice)
    finished = run_page(log_of(episode(0, 0.5, 0.4), planned=1)).sections[0].blocks[0]
    assert isinstance(finished, Verdict)
    assert finished.verdict == "The learned policy is in my-run/policy."
    assert finished.why.startswith("Against the random player the learner won 1 episode")
    assert finished.command.startswith("nmg adapt --config my-run/config.yaml")
    assert '<div class="notice" role="note">' in render_html(page)


# --- sample masks


@pytest.mark.usefixtures("undrawn")
def test_sample_masks_from_the_first_snapshot_to_the_last():
    snapshots = [snapshot(n, PROBABILITIES) for n in range(0, 82, 2)]
    page = run_page(log_of(episode(0), texts=TEXTS, snapshots=snapshots))
    (shaded,) = [block for block in blocks_of(page, "Sample masks") if isinstance(block, ShadedTexts)]
    (text,) = shaded.texts
    assert [row.name for row in text.rows] == ["at the start", *(f"after {n}" for n in (16, 32, 48, 64, 80))]
    tokens = text.rows[0].tokens
    assert [token.text for token in tokens] == TEXTS[0]["tokens"]
    assert [token.probability for token in tokens] == list(PROBABILITIES)
    assert [token.is_masked for token in tokens] == [False, True, *[False] * 5]
    assert [token.is_special for token in tokens] == [True, *[False] * 5, True]
    assert [token.starts_word for token in tokens] == TEXTS[0]["starts_word"]
    few = run_page(log_of(episode(0), texts=TEXTS, snapshots=snapshots[:2]))
    assert [row.name for row in blocks_of(few, "Sample masks")[1].texts[0].rows] == ["at the start", "after 2"]


# --- any run


def test_a_run_without_an_episode():
    page = run_page(log_of(texts=TEXTS, snapshots=[snapshot(0, PROBABILITIES)]), refresh_seconds=5)
    html = assert_fine(page)
    assert [section.heading for section in page.sections] == ["The run", "Sample masks", "Settings"]
    assert "No episode has ended yet" in html
    assert "0 of 100 episodes" in html
    assert "at the start" in html


@pytest.mark.parametrize("n", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 1000))])
def test_runs_of_any_length(n: int):
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.1, size=(n, 3)).tolist()
    update = [
        UPDATE | {"ratio_max": float(np.exp(abs(rng.normal()) * 5)), "value_loss": rng.random()} for _ in range(n)
    ]
    lines = [
        episode(i, a, b, c, learner_update=update[i], opponent_update=update[i]) for i, (a, b, c) in enumerate(scores)
    ]
    page = run_page(log_of(*lines, planned=n, texts=TEXTS, snapshots=[snapshot(n, PROBABILITIES)]))
    assert "finished" in page.subtitle
    html = assert_fine(page)
    assert html.count("<svg") == 2 * 5


def test_without_self_play():
    assert_fine(run_page(log_of(*map(episode, range(5)))))


def test_a_run_of_another_learner(undrawn: Drawn):
    """All that every learner has: scores of each of its players, time, sample masks. No rewards, no leader."""
    lines = [search_episode(0, 0.5, 0.7, 0.6), search_episode(1, 0.4, 0.4, 0.4), search_episode(2, 0.3, 0.4, 0.8)]
    config = config_of(100, "random-search")
    page = run_page(log_of(*lines, config=config, texts=TEXTS, snapshots=[snapshot(0, PROBABILITIES)]))
    assert [section.heading for section in page.sections] == ["The run", "Scores", "Time", "Sample masks", "Settings"]
    assert undrawn.curves.keys() == {"accuracy × 100 (higher is better)"}, "there is no lead"
    curves = undrawn.curves["accuracy × 100 (higher is better)"]
    expected = {"candidate-0": [50, 40, 30], "candidate-1": [70, 40, 40], "candidate-2": [60, 40, 80]}
    assert list(curves) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(curves[name], values)
    (scores,) = tables_of(page, "Scores")
    assert scores == {
        "candidate-0": ("40.0", "0.600"),
        "candidate-1": ("50.0", "0.500"),
        "candidate-2": ("60.0", "0.400"),
    }
    facts = facts_of(page)
    assert facts["learner"] == "random-search"
    assert facts["best episode"] == "3 (accuracy 80.0)"
    assert warnings(log_of(lines[1], config=config)) == []
    html = render_html(page)
    for word in ("better (above 0)", "reward", "replay", "opponent"):
        assert word not in html.split("<details")[0], word


@pytest.mark.usefixtures("undrawn")
def test_everything_is_escaped():
    config = Config.model_validate({"model": {"name": EVIL}, "data": {"train": EVIL}})
    texts = [TEXTS[0] | {"tokens": ["[CLS]", EVIL, *TEXTS[0]["tokens"][2:]]}]
    log = log_of(
        episode(0), config=config, texts=texts, snapshots=[snapshot(0, PROBABILITIES)], facts={"command": EVIL}
    )
    html = render_html(run_page(RunLog(**(vars(log) | {"name": EVIL}))))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6
    notice = render_html(Document("t", sections=[Section("s", [Notice(f"{EVIL} and `code`")])]))
    assert "<script" not in notice
    assert "<code>code</code>" in notice


@pytest.mark.usefixtures("undrawn")
def test_the_page_loads_itself_again_only_while_the_run_goes_on():
    again = '<meta http-equiv="refresh" content="7">'
    assert again in render_html(run_page(log_of(episode(0)), refresh_seconds=7))
    assert 'http-equiv="refresh"' not in render_html(run_page(log_of(episode(0))))
    assert 'http-equiv="refresh"' not in render_html(run_page(log_of(episode(0), planned=1), refresh_seconds=7))


def test_the_page_of_a_real_run(inputs: Inputs, tmp_path: Path):
    config = inputs.config(meta={"episodes": 2})
    training = meta_training.start(config, tmp_path / "run", Silent(), lambda _record, _episodes: None)
    page = run_page(read_run(tmp_path / "run"))
    html = assert_fine(page)
    assert page.subtitle == "nmg learn · 2 of 2 episodes · finished"
    facts = facts_of(page)
    assert facts["device"] == "cpu, fp32"
    assert facts["best episode"].startswith(("1 (loss", "2 (loss"))
    assert int(tables_of(page, "Policy")[0]["stored transitions"][-1]) == len(training.learner.learner.replay)
    counted = [int(row[0]) for row in tables_of(page, "Rewards and credit")[0].values()]
    assert sum(counted) == 2 * 8 * 3, "8 contexts of 10 tokens at a rate of 0.3"
    assert "after 2" in html
    assert not [block for section in page.sections for block in section.blocks if isinstance(block, Paragraph)][1:]


def test_the_page_of_a_real_run_of_another_learner(inputs: Inputs, tmp_path: Path):
    """Of more candidates than there are colours."""
    sections = inputs.sections(meta={"episodes": 2, "continual": False})
    config = Config.model_validate(sections | {"learner": {"kind": "random-search", "candidates": 8}})
    meta_training.start(config, tmp_path / "run", Silent(), lambda _record, _episodes: None)
    page = run_page(read_run(tmp_path / "run"))
    html = assert_fine(page)
    assert page.subtitle == "nmg learn · 2 of 2 episodes · finished"
    assert html.count("<svg") == 2 * 2
    (scores,) = tables_of(page, "Scores")
    assert list(scores) == [f"candidate-{number}" for number in range(8)]
    for name in scores:
        assert f">{name}</text>" in html, "each has its curve"
    assert "after 2" in html
