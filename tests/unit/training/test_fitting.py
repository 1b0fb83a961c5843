"""Which checkpoint a stopped run goes on from."""

from __future__ import annotations

import logging

from hf_mner.training.fitting import last_whole_checkpoint


def test_a_half_written_checkpoint_is_passed_over_and_removed(tmp_path, caplog):
    for step, state in ((9, "{}"), (10, '{"epo'), (100, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").touch()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    with caplog.at_level(logging.WARNING):
        assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-9"]
    assert "checkpoint-100 was not written to its end" in caplog.text


def test_steps_are_compared_as_numbers(tmp_path):
    for step in (9, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def test_without_checkpoints_training_begins_anew(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "absent") is None


def test_every_process_has_written_its_state(tmp_path, monkeypatch):
    for step, ranks in ((9, (0, 1)), (10, (0,))):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        for rank in ranks:
            (tmp_path / f"checkpoint-{step}" / f"rng_state_{rank}.pth").touch()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
