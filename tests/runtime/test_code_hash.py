"""The hash of the code: what changes it."""

from videores.runtime import code_hash


def test_the_hash_of_the_code_covers_what_can_change_a_result_and_nothing_else(tmp_path):
    for name in code_hash.RESULT_CODE:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text('"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 1  # reason\n')
    (tmp_path / "run.py").write_text("steps = 1\n")
    (tmp_path / "reporting").mkdir()
    before = code_hash.hash_package(tmp_path)
    (tmp_path / "reporting" / "page.py").write_text("COLOR = 'red'\n")
    for name in code_hash.FLOOR_CODE:
        (tmp_path / name).write_text("SIDE = 8\n")
    (tmp_path / "data" / "a.py").write_text('"""Other."""\ndef f(x):\n    """Other."""\n    return x+1\n')
    assert code_hash.hash_package(tmp_path) == before
    (tmp_path / "data" / "a.py").write_text('"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 2\n')
    changed = code_hash.hash_package(tmp_path)
    (tmp_path / "run.py").write_text("steps = 2\n")
    assert len({before, changed, code_hash.hash_package(tmp_path)}) == 3
