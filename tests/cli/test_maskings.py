"""nmg maskings."""

from nmg.masking.registry import MASKINGS, SOURCES
from support.command import Nmg


def test_every_masking_has_a_line_with_what_it_masks_and_its_source(nmg: Nmg):
    answer = nmg("maskings")
    assert answer.code == 0
    lines = answer.out.splitlines()
    for name, about in MASKINGS.items():
        (line,) = [line for line in lines if line.strip(" │|").split(" ")[0] == name]
        assert about in line
        assert SOURCES[name] in line
