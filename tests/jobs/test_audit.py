"""An audit as one call: it writes its page, as the command does."""

from pathlib import Path
from typing import Any

import nmg
from nmg.config import Config
from support.runs import Inputs


def test_an_audit_writes_all_its_files(inputs: Inputs, tmp_path: Path):
    changes: dict[str, Any] = {"adapt": {"epochs": 1}, "reward": {"metric": None}, "meta": {"continual": False}}
    sections = inputs.sections(**changes)
    del sections["learner"], sections["policy"]
    result = nmg.audit(Config.model_validate(sections), tmp_path / "audit", seeds=2, minutes=1e-6)
    files = {path.name for path in (tmp_path / "audit").iterdir()}
    assert files == {"trials.jsonl", "audit.json", "recommended.yaml", "index.html"}
    page = (tmp_path / "audit" / "index.html").read_text(encoding="utf-8")
    assert "Is there anything to learn?" in page
    assert result.facts["recommendation"][:40] in page
    assert repr(result).startswith("Audited(adapting_helps=")
    assert result.summary().startswith("Verdict: ")
    assert len(result.to_frame()) == len(result.trials)
    assert "<dl" in result._repr_html_()
