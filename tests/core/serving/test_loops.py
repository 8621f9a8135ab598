"""Programs on the nodes of a cluster end with whoever wanted them; what the cluster says is given here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import DatabaseAway
from core.serving import loops
from core.settings import Settings


class Ray:
    """As much of Ray as a loop asks: room for three programs, none of which ends. is_away: it takes no word."""

    exceptions = SimpleNamespace(RayError=ArithmeticError, RayTaskError=LookupError)

    def __init__(self, *, is_away: bool) -> None:
        self.is_away = is_away
        self.running: list[int] = []

    def remote(self, _function: Any) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._begin))

    def _begin(self, *_: Any) -> int:
        self.running.append(len(self.running))
        return self.running[-1]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def wait(self, running: list[int], timeout: float) -> tuple[list[int], list[int]]:
        return [], running

    def cancel(self, one: int, *, force: bool) -> None:
        if self.is_away:
            raise ConnectionError
        self.running.remove(one)


@pytest.mark.parametrize("is_away", [False, True])
def test_programs_end_where_nobody_can_say_whether_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    ray = Ray(is_away=is_away)
    monkeypatch.setattr(loops, "ray_of", lambda settings: ray)
    asked: list[int] = []

    def is_wanted() -> bool:
        asked.append(len(ray.running))
        if len(asked) == 3:
            raise DatabaseAway("It does not answer.")
        return True

    with pytest.raises(DatabaseAway):
        loops.on_every_node(Settings(state_dir=tmp_path, ray_cpus=1), ["program"], is_wanted)
    assert asked == [0, 3, 3]
    assert ray.running == ([0, 1, 2] if is_away else [])
