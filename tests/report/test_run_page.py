"""The page of a meta-training: numbers by hand, runs that have not begun, are under way, are long, or were logged by
an older version."""

import re
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from nmg import training_run
from nmg.config import Config
from nmg.report.page import Facts, Notice, PageContent, Paragraph, Plot, Section, ShadedTexts, render_page
from nmg.report.run_log import RunLog, read_run
from nmg.report.run_page import run_page, warnings
from nmg.report.run_plots import Panel
from nmg.report.tables import Table
from nmg.reporter import Silent
from support.run_logs import LAPS, PROBABILITIES, TEXTS, UPDATE, episode, log_of, snapshot
from support.runs import Inputs

EVIL = "<script>alert('x')</script>&"


def facts_of(page: PageContent) -> dict[str, str]:
    return dict(next(block for block in page.sections[0].blocks if isinstance(block, Facts)).items)


def blocks_of(page: PageContent, heading: str) -> Sequence[Any]:
    return next(section.blocks for section in page.sections if section.heading == heading)


def tables_of(page: PageContent, heading: str) -> list[dict[str, tuple[str, ...]]]:
    """The tables of a section: first cell of a row → the others."""
    return [{row[0]: row[1:] for row in b.rows} for b in blocks_of(page, heading) if isinstance(b, Table)]


class Drawn:
    """What figures were asked to show: heading of a panel → its curves, and names of stacked bars → their heights."""

    def __init__(self) -> None:
        self.curves: dict[str, dict[str, Any]] = {}
        self.bars: list[dict[str, Any]] = []

    def curves_plot(self, panels: Sequence[Panel], _title: str) -> str:
        self.curves |= {panel.heading: dict(panel.curves) for panel in panels}
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"

    def bars_plot(self, parts: dict[str, Any], _quantity: str, _title: str) -> str:
        self.bars.append(parts)
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Pages without their figures, which take most of their time."""
    drawn = Drawn()
    for name in ("curves_plot", "bars_plot"):
        monkeypatch.setattr(f"nmg.report.run_page.{name}", getattr(drawn, name))
    return drawn


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
    """Inner phases lie within the inner loops: an episode takes 1 + 2 + 60 + 7 s."""
    facts = facts_of(run_page(log_of(*map(episode, range(4)), planned=10)))
    assert facts["episodes"] == "4 of 10"
    assert (facts["time"], facts["an episode"], facts["left, about"]) == ("4.7 min", "70.0 s", "7.0 min")
    slower = [episode(i, seconds=LAPS | {"update": 17.0}) for i in range(4, 14)]
    facts = facts_of(run_page(log_of(*map(episode, range(4)), *slower, planned=15)))
    assert facts["left, about"] == "80.0 s", "as long as the last ten episodes took"
    assert "left, about" not in facts_of(run_page(log_of(*map(episode, range(4)), planned=4)))


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
    assert rows["fine-tune"][1] == f"{90 / 210:.1%}"


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


@pytest.mark.usefixtures("undrawn")
def test_credit_is_counted_over_episodes_and_rewards_weighed_by_actions():
    first = {"alone": {"actions": 30, "reward": 1.0}, "with_both": {"actions": 10, "reward": 0.0}}
    second = {"alone": {"actions": 10, "reward": -1.0}, "with_random": {"actions": 50, "reward": 0.25}}
    (rows,) = tables_of(run_page(log_of(episode(0, credit=first), episode(1, credit=second))), "Rewards and credit")
    assert rows == {
        "learner alone": ("40", "40.0%", "+0.500"),
        "random too": ("50", "50.0%", "+0.250"),
        "opponent too": ("0", "0.0%", "–"),
        "all (dropped)": ("10", "10.0%", "–"),
    }


@pytest.mark.usefixtures("undrawn")
def test_the_policy_in_numbers():
    """First, mean of the last ten, lowest, highest; episodes without an update do not count."""
    entropies = [0.1, 0.3, *[0.2] * 9, 0.05]
    updates = [UPDATE | {"entropy_per_row": value} for value in entropies]
    silent = episode(0)
    del silent["learner_update"]
    episodes = [silent, *(episode(i + 1, learner_update=update) for i, update in enumerate(updates))]
    (rows,) = tables_of(run_page(log_of(*episodes)), "Policy")
    assert rows["entropy (nats a token)"] == ("0.1", "0.185", "0.05", "0.3")
    assert rows["age of what is held (episodes)"] == ("0", "3.75", "0", "6")
    assert rows["transitions held"][-1] == "520"


@pytest.mark.usefixtures("undrawn")
def test_without_an_update_the_page_says_when_they_begin():
    line = episode(0)
    del line["learner_update"]
    (paragraph,) = blocks_of(run_page(log_of(line)), "Policy")
    assert paragraph.text == "No update yet: updates begin once the replay holds 500 transitions; it holds 40."


# --- figures


@pytest.mark.parametrize(("metric", "lead"), [("accuracy", 10.0), ("loss", 0.1)])
def test_the_lead_is_positive_where_the_learner_is_better(undrawn: Drawn, metric: str, lead: float):
    """Accuracy 0.5 is better than 0.4, and so is a loss of 0.5 than one of 0.6."""
    run_page(log_of(episode(0, 0.5, 0.4, metric=metric), episode(1, 0.5, 0.4, rival=0.7, metric=metric)))
    leads = undrawn.curves["lead of the learner"]
    np.testing.assert_allclose(leads["over random"], [lead, lead])
    np.testing.assert_allclose(leads["over opponent"], [nan, -2 * lead])


def test_every_series_of_a_run_is_drawn(undrawn: Drawn):
    """Against the opponent only where it plays; episodes without an update have a gap."""
    update, rival = UPDATE | {"ratio_mean": 1.1}, UPDATE | {"value_loss": 0.3}
    late = episode(1, 0.5, 0.4, 0.6, learner_update=update, opponent_update=rival, replay_age=0.25)
    run_page(log_of(episode(0, 0.5, 0.4, learner_update=None), late))
    expected = {
        "accuracy × 100": {"learner": [50, 50], "opponent": [nan, 60], "random": [40, 40]},
        "reward": {"mean of actions": [1, -1], "against opponent": [nan, -1], "against random": [1, 1]},
        "entropy": {"learner": [nan, 0.06], "opponent": [nan, 0.06]},
        "value error": {"learner": [nan, 0.9], "opponent": [nan, 0.3]},
        "importance ratio": {"mean": [nan, 1.1], "max": [nan, 2.5]},
        "replay age (episodes)": {"drawn": [nan, 0.7], "held": [0, 0.25]},
    }
    assert set(undrawn.curves) == {*expected, "lead of the learner"}
    for heading, curves in expected.items():
        assert list(undrawn.curves[heading]) == list(curves)
        for name, values in curves.items():
            np.testing.assert_allclose(undrawn.curves[heading][name], values, err_msg=f"{heading}, {name}")
    credit, seconds = undrawn.bars
    assert {name: values.tolist() for name, values in credit.items() if values.any()} == {
        "learner alone": [90, 90],
        "all (dropped)": [10, 10],
    }
    assert sum(values.sum() for values in seconds.values()) == 140


# --- warnings


def test_a_run_that_goes_well_brings_no_warning():
    assert warnings(log_of(*map(episode, range(30)))) == []
    assert warnings(log_of()) == []


def test_ties_bring_a_warning_while_there_was_nothing_else():
    tie = episode(0, 0.5, 0.5)
    (said,) = warnings(log_of(tie, tie))
    assert "All rewards are 0 so far** (2 episodes)" in said
    assert "--reward.kind difference --reward.metric loss" in said
    assert warnings(log_of(tie, tie, episode(2))) == []


def test_high_importance_ratios_bring_a_warning():
    ratios = [999.0, 1000.0, 1500.0, 2e4, 2.0]
    lines = [episode(i, learner_update=UPDATE | {"ratio_max": ratio}) for i, ratio in enumerate(ratios)]
    (said,) = warnings(log_of(*lines))
    assert "20,000 was seen (episode 4; above 1000 in 2 episodes)" in said
    assert warnings(log_of(*lines[:2])) == []


def test_a_collapsed_entropy_brings_a_warning():
    lines = [
        episode(i, learner_update=UPDATE | {"entropy_per_row": value}) for i, value in enumerate((0.06, 0.05, 0.005))
    ]
    (said,) = warnings(log_of(episode(0, learner_update=None), *lines))
    assert "Its entropy is 0.005; it began at 0.06" in said
    assert warnings(log_of(*lines[:2])) == []
    assert warnings(log_of(*lines, episode(3))) == [], "it has come back"


@pytest.mark.usefixtures("undrawn")
def test_warnings_stand_first():
    page = run_page(log_of(episode(0, 0.5, 0.5)))
    assert isinstance(page.sections[0].blocks[0], Notice)
    assert '<div class="notice" role="note">' in render_page(page)


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


def assert_fine(page: PageContent) -> str:
    html = render_page(page)
    assert len(html) < 4_000_000
    for block in (block for section in page.sections for block in section.blocks):
        if isinstance(block, Plot):
            assert len(block.svg) < 1_000_000
            ElementTree.fromstring(block.svg)
    assert not re.search(r">\s*(nan|inf|None)\b", html, flags=re.IGNORECASE)
    return html


def test_a_run_without_an_episode():
    page = run_page(log_of(texts=TEXTS, snapshots=[snapshot(0, PROBABILITIES)]), refresh_seconds=5)
    html = assert_fine(page)
    assert [section.heading for section in page.sections] == ["The run", "Sample masks", "Settings"]
    assert "No episode has ended yet" in html
    assert "0 of 100 episodes" in html
    assert "at the start" in html


@pytest.mark.parametrize("n", [1, 2, 1000])
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
    assert html.count("<svg") == 5


def test_a_run_that_an_older_version_logged():
    """Neither credit nor ages nor samples, no device."""
    lines = [episode(i, learner_update={k: v for k, v in UPDATE.items() if k != "age"}) for i in range(3)]
    for line in lines:
        del line["credit"], line["replay_age"]
    page = run_page(log_of(*lines))
    html = assert_fine(page)
    assert "Credit was not logged" in html
    assert "no sample masks" in html
    assert "device" not in facts_of(page)
    assert "age of what" not in html.split("Settings")[0]


def test_without_self_play():
    assert_fine(run_page(log_of(*map(episode, range(5)))))


@pytest.mark.usefixtures("undrawn")
def test_everything_is_escaped():
    config = Config.model_validate({"model": {"name": EVIL}, "data": {"train": EVIL}})
    texts = [TEXTS[0] | {"tokens": ["[CLS]", EVIL, *TEXTS[0]["tokens"][2:]]}]
    log = log_of(
        episode(0), config=config, texts=texts, snapshots=[snapshot(0, PROBABILITIES)], facts={"command": EVIL}
    )
    html = render_page(run_page(RunLog(**(vars(log) | {"name": EVIL}))))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6
    notice = render_page(PageContent("t", sections=[Section("s", [Notice(f"{EVIL} and `code`")])]))
    assert "<script" not in notice
    assert "<code>code</code>" in notice


@pytest.mark.usefixtures("undrawn")
def test_the_page_loads_itself_again_only_while_the_run_goes_on():
    again = '<meta http-equiv="refresh" content="7">'
    assert again in render_page(run_page(log_of(episode(0)), refresh_seconds=7))
    assert "http-equiv" not in render_page(run_page(log_of(episode(0))))
    assert "http-equiv" not in render_page(run_page(log_of(episode(0), planned=1), refresh_seconds=7))


def test_the_page_of_a_real_run(inputs: Inputs, tmp_path: Path):
    config = inputs.config(meta={"episodes": 2})
    training = training_run.start(config, tmp_path / "run", Silent(), lambda _record, _episodes: None)
    page = run_page(read_run(tmp_path / "run"))
    html = assert_fine(page)
    assert page.subtitle == "2 of 2 episodes · finished"
    facts = facts_of(page)
    assert facts["device"] == "cpu, fp32"
    assert facts["best episode"].startswith(("1 (loss", "2 (loss"))
    assert int(tables_of(page, "Policy")[0]["transitions held"][-1]) == len(training.learner.replay)
    counted = [int(row[0]) for row in tables_of(page, "Rewards and credit")[0].values()]
    assert sum(counted) == 2 * 8 * 3, "8 contexts of 10 tokens at a rate of 0.3"
    assert "after 2" in html
    assert not [block for section in page.sections for block in section.blocks if isinstance(block, Paragraph)][1:]
