"""`streamproc fmt`: in place, --check, stdin, and files that cannot be laid out."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from streamproc.cli.main import run_command
from streamproc.cli.project import project_files

LOOSE, EVEN = "a:\n- 1   # one\n", "a:\n  - 1   # one\n"


def test_files_are_laid_out_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loose, even = tmp_path / "loose.yaml", tmp_path / "even.yaml"
    loose.write_text(LOOSE)
    loose.chmod(0o640)
    even.write_text(EVEN)
    before = even.stat().st_mtime_ns
    assert run_command(["fmt", str(loose), str(even)]) == 0
    assert capsys.readouterr() == ("", f"laid out {loose}\n")
    assert (loose.read_text(), even.read_text()) == (EVEN, EVEN)
    assert even.stat().st_mtime_ns == before
    assert loose.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [even, loose]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(LOOSE)
    (tmp_path / "link.yaml").symlink_to("f.yaml")
    assert run_command(["fmt", str(tmp_path / "link.yaml")]) == 0
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "f.yaml").read_text() == EVEN


def test_check_names_files_and_changes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loose, even = tmp_path / "loose.yaml", tmp_path / "even.yaml"
    loose.write_text(LOOSE)
    even.write_text(EVEN)
    assert run_command(["fmt", "--check", str(loose), str(even)]) == 1
    assert capsys.readouterr() == (f"{loose}\n", "")
    assert loose.read_text() == LOOSE
    assert run_command(["fmt", "--check", str(even)]) == 0


def test_line_ends_of_windows_are_a_change(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(EVEN.replace("\n", "\r\n").encode())
    assert run_command(["fmt", "--check", str(tmp_path / "f.yaml")]) == 1
    assert run_command(["fmt", str(tmp_path / "f.yaml")]) == 0
    assert (tmp_path / "f.yaml").read_bytes() == EVEN.encode()


@pytest.mark.parametrize(("text", "code"), [(LOOSE, 1), (EVEN, 0)])
def test_stdin_goes_to_stdout(
    text: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run_command(["fmt", "-"]) == 0
    assert capsys.readouterr() == (EVEN, "")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run_command(["fmt", "--check", "-"]) == code


def test_what_is_wrong_with_files_is_said_and_the_others_are_laid_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, latin, loose = tmp_path / "wrong.yaml", tmp_path / "latin.yaml", tmp_path / "loose.yaml"
    wrong.write_text("a: [1\nb: 2\n")
    latin.write_bytes(b"a: \xe9\n")
    loose.write_text(LOOSE)
    assert run_command(["fmt", str(wrong), str(tmp_path / "none.yaml"), str(latin), str(loose)]) == 2
    err = capsys.readouterr().err
    assert f"{wrong}:2:2: not YAML" in err
    assert f"{tmp_path / 'none.yaml'}: cannot be read: No such file" in err
    assert f"{latin}: not UTF-8 text" in err
    assert wrong.read_text() == "a: [1\nb: 2\n"
    assert loose.read_text() == EVEN


def test_a_new_project_is_laid_out(tmp_path: Path) -> None:
    files = {path: content for path, content in project_files("mine").items() if path.endswith(".yaml")}
    assert len(files) >= 5
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert run_command(["fmt", "--check", *[str(tmp_path / path) for path in files]]) == 0
