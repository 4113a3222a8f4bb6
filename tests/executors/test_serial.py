"""Jobs one after another."""

from collections.abc import Iterator

from nmg.executors.serial import SerialExecutor


class Adder:
    def __init__(self) -> None:
        self.played: list[int] = []

    def run(self, shared: int, job: int) -> int:
        self.played.append(job)
        return shared + job


def test_each_result_comes_with_its_job_before_the_next_job_is_played():
    adder = Adder()
    with SerialExecutor(adder) as engine:
        results: Iterator[tuple[int, int]] = engine.map_unordered(10, [5, 7])
        assert next(results) == (0, 15)
        assert adder.played == [5]
        assert list(results) == [(1, 17)]
    assert dict(engine.map_unordered(1, [2])) == {0: 3}, "closed, it plays anew"
