"""Pictures of test cases: only files of this site's data sets, whatever a case is called."""

from __future__ import annotations

from pathlib import Path

from core.records.data_sets import files_dir
from core.settings import Settings


def test_a_case_is_shown_from_the_data_sets_folders_and_its_name_never_leads_out_of_them(tmp_path: Path) -> None:
    from pages.research.parts import pictures

    settings = Settings(state_dir=tmp_path)
    folder = files_dir(settings)
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "picture.png").write_bytes(b"x")
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    (folder / "ab" / "link.png").symlink_to(secret)
    other = tmp_path / "other"
    other.mkdir()
    (other / "second.png").write_bytes(b"x")
    folders = (folder, other)
    assert pictures.picture_path("ab/picture.png", folders) == (folder / "ab" / "picture.png").resolve()
    assert pictures.picture_path("second.png", folders) == (other / "second.png").resolve()
    for name in ("ab/absent.png", "../../secret.png", "../secret.png", str(secret), "ab/link.png", "ab", "", "x" * 300):
        assert pictures.picture_path(name, folders) is None, name
