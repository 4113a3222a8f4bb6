"""The same name gives the same numbers, another name gives others, and nobody's global state is touched."""

import subprocess
import sys
from contextlib import suppress

import numpy as np
import torch

from nmg.base.seeding import StreamName, stream, stream_seed, torch_stream


def test_the_same_name_gives_the_same_numbers_whatever_ran_before():
    first = stream(7, "episode", 3).random(5)
    stream(7, "other").random(100)
    np.testing.assert_array_equal(stream(7, "episode", 3).random(5), first)


def test_names_that_differ_in_anything_differ():
    names = [
        (0,),
        (1,),
        (0, "a"),
        (0, "b"),
        (0, "a", "b"),
        (0, "b", "a"),
        (0, "ab"),
        (0, 1),
        (0, "1"),
        (0, 1, 1),
        (0, 11),
        (1, "0"),
    ]
    assert len({stream_seed(*name) for name in names}) == len(names)


def test_seeds_fit_every_generator():
    seeds = [stream_seed(seed, "x") for seed in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**60


def test_seeds_are_the_same_in_every_process():
    """`hash` is salted for each process; the digest is not."""
    code = "from nmg.base.seeding import stream_seed; print(stream_seed(5, 'episode', 2))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == stream_seed(5, "episode", 2)


def test_torch_stream_repeats_and_leaves_the_global_generator_as_it_was():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch_stream(3, "head"):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    with torch_stream(3, "head"):
        assert torch.equal(torch.rand(4), first)
    with torch_stream(3, "dropout"):
        assert not torch.equal(torch.rand(4), first)


def test_torch_stream_restores_after_an_error():
    before = torch.get_rng_state()
    with suppress(KeyError), torch_stream(3, "head"):
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_torch_streams_nest():
    with torch_stream(1, "outer"):
        alone = torch.rand(2)
    with torch_stream(1, "outer"):
        first = torch.rand(1)
        with torch_stream(1, "inner"):
            torch.rand(9)
        nested = torch.cat([first, torch.rand(1)])
    assert torch.equal(nested, alone)


def test_no_stream_touches_numpys_global_state():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    stream(1, "a").random(10)
    assert np.random.random() == expected


def test_a_stream_name_is_the_stream_of_its_path():
    name = StreamName(4) / "episode" / 2
    np.testing.assert_array_equal((name / "masks").generator().random(3), stream(4, "episode", 2, "masks").random(3))
    with name.torch():
        numbers = torch.rand(3)
    with torch_stream(4, "episode", 2):
        assert torch.equal(torch.rand(3), numbers)
    assert name == StreamName(4, ("episode", 2))
