"""`ockham adapt` on a model that is small enough for tests."""

from __future__ import annotations

import math
import random
import re
import shutil

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.cli.checkpoint_lookup import find_checkpoint
from ockham.errors import BadInputError, DataError, PolicyError, RunError
from ockham.nano.adaptation import Adaptation, adaptation_settings, load_base
from ockham.nano.data import load_corpus
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers.events import events, plain_validator
from tests.helpers.tiny_trainer import TINY, text

BASE = """
extends: adapt
targets: {}
plugins:
  gate: null
  memory: {quality_fraction: 1.0, min_oq_improvement: 0.001}
"""
TWO = [word for setting in (*TINY, "n_layer=2", "device=cpu") for word in ("--set", setting)]


def run(runs, *words):
    """Run a command in this process and raise its error."""
    done = CliRunner().invoke(build_app(), [*words, "--runs", str(runs)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def event_data(folder, kind, attempt=1):
    return [e["data"] for e in events(folder, attempt) if e["type"] == f"ockham.{kind}.v1"]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A trained run, and two adaptations of it: all weights, and a low-rank adapter."""
    folder = tmp_path_factory.mktemp("adapt")
    runs = folder / "runs"
    draw = random.Random(1)
    (folder / "new.txt").write_text("".join(draw.choice("+*/<>{}[]") * 3 + f"{i % 7};\n" for i in range(900)))
    (folder / "base.yaml").write_text(BASE)
    base = ["train", "--policy", str(folder / "base.yaml"), "--data", str(text(folder)), "--run", "base"]
    assert run(runs, *base, *TWO, "--set", "max_iters=120", "--set", "learning_rate=0.01").exit_code == 0
    adapt = ["adapt", "--from", "base", "--data", str(folder / "new.txt")]
    adapt += ["--set", "threads=1", "--set", "max_iters=60"]
    rate = ["--set", "learning_rate=0.01"]
    assert run(runs, *adapt, "--run", "full", *rate, "--set", "checkpoint_every=30").exit_code == 0
    lora = ["--lora", "h.1.*", "--rank", "1"]
    done = run(runs, *adapt, "--run", "low", *rate, *lora, "--set", "checkpoint_every=30")
    assert done.exit_code == 0
    return folder, runs, adapt, done.stdout


def test_lineage_of_adapted_weights_names_their_base(adapted, tmp_path):
    """The chain continues through the base run, and the output names the run that is missing."""
    _, runs, _, _ = adapted
    file = max((runs / "full" / "checkpoints").iterdir()) / "model.safetensors"
    done = run(runs, "lineage", str(file))
    assert done.exit_code == 0, done.output
    assert re.search(
        r"from run base, checkpoint accepted-\d+: confirmed by its log, accepted by", done.stdout
    )
    shutil.copytree(runs / "full", tmp_path / "full")
    alone = run(tmp_path, "lineage", str(tmp_path / "full" / file.relative_to(runs / "full")))
    assert "not confirmed, the chain stops here: no run 'base'" in alone.stdout


@pytest.mark.parametrize("name", ["full", "low"])
def test_adapted_run_verifies_and_replays_identically(adapted, name):
    """The policy contains the calibration, so a replay needs nothing else."""
    _, runs, _, _ = adapted
    folder = RunFolder(runs, name)
    assert verify_run(folder).sound
    report = replay_run(folder, processes=1)
    assert report.identical
    assert report.total("decisions") > 60


def test_stopped_adaptation_has_its_own_status_and_continues(adapted):
    """A person stops it after iteration 5. The first resumed batch is 6."""
    folder, runs, adapt, _ = adapted
    asker = f"{{use: 'tests.helpers.requests:Asker', runs: {runs}, run_id: stopped, iter_num: 5}}"
    (folder / "asker.yaml").write_text(f"extends: adapt\nplugins:\n  asker: {asker}\n")
    done = run(runs, *adapt, "--run", "stopped", "--policy", str(folder / "asker.yaml"))
    assert done.exit_code == 4, done.output
    stopped = RunFolder(runs, "stopped")
    assert event_data(stopped, "run.finished")[0]["reason_code"] == "STOPPED_BY_USER"
    assert run(runs, "adapt", "--run", "stopped", "--resume").exit_code == 0
    assert event_data(stopped, "run.resumed", attempt=2)[0]["iter_num"] == 6
    assert verify_run(stopped).sound


@pytest.mark.parametrize("name", ["full", "low"])
def test_every_event_matches_its_schema(adapted, name):
    """Includes the adapter's events. An independent validator reads them."""
    _, runs, _, _ = adapted
    for event in events(RunFolder(runs, name)):
        plain_validator(event["type"].removeprefix("ockham.").removesuffix(".v1")).validate(event)


def test_gate_uses_the_calibrated_threshold_for_every_verdict(adapted):
    """The threshold is mean + z sd of the familiar loss; an update requires loss >= threshold."""
    _, runs, _, _ = adapted
    folder = RunFolder(runs, "full")
    settings = event_data(folder, "run.started")[0]["settings"]
    calibration = settings["calibration"]["gate"]
    verdicts = [d for d in event_data(folder, "decision.made") if d["plugin"] == "gate"]
    assert len(verdicts) == 60
    assert {d["threshold"] for d in verdicts} == {calibration["mean"] + 1.0 * calibration["sd"]}
    assert all((d["action"] == "UPDATE") == (d["observed"] >= d["threshold"]) for d in verdicts)
    assert 0 < sum(d["action"] == "UPDATE" for d in verdicts) < 60


def test_served_losses_are_means_of_losses_before_the_update(adapted):
    """The means are recomputed from the contexts, which record whether a batch was new text."""
    _, runs, _, _ = adapted
    batches = [c for c in event_data(RunFolder(runs, "low"), "context.recorded") if c["hook"] == "batch"]
    last = batches[-1]["measured"]["custom"]
    for name, wanted in (("served", (0, 1)), ("served_new", (1,)), ("served_familiar", (0,))):
        losses = [c["given"]["task_loss"] for c in batches if c["measured"]["custom"]["new_text"] in wanted]
        assert last[f"{name}_loss"] == pytest.approx(math.fsum(losses) / len(losses))
        assert last[f"{name}_batches"] == len(losses)


def test_evaluation_weights_new_and_familiar_text_as_the_stream(adapted):
    """The validation loss is share * new + (1 - share) * familiar."""
    _, runs, _, stdout = adapted
    rows = Catalog(runs).rows(
        "select custom['new_loss'] n, custom['familiar_loss'] f, val_loss v from contexts "
        "where run_id = 'full' and hook = 'on_evaluate' order by iter_num"
    )
    assert len(rows) == 10
    assert all(row["v"] == pytest.approx(0.15 * row["n"] + 0.85 * row["f"]) for row in rows)
    assert rows[-1]["n"] < event_data(RunFolder(runs, "full"), "run.started")[0]["settings"]["new_loss"] - 0.1
    assert "validation before" in stdout


def test_adapter_is_disabled_and_enabled_at_each_evaluation(adapted):
    """Without the adapter the weights are identical to the checkpoint.

    The events count the added parameters.
    """
    _, runs, _, _ = adapted
    folder = RunFolder(runs, "low")
    on, off = event_data(folder, "adapter.enabled"), event_data(folder, "adapter.reverted")
    assert (len(on), len(off)) == (11, 10)
    assert all(event["identical"] and event["weights_sha256"] == on[0]["weights_sha256"] for event in off)
    assert on[0]["layers"] == ["h.1.attn.c_attn", "h.1.attn.c_proj", "h.1.mlp.c_fc", "h.1.mlp.c_proj"]
    assert on[0]["added_params"] == 1 * (16 + 48 + 16 + 16 + 16 + 64 + 64 + 16)
    assert event_data(RunFolder(runs, "full"), "adapter.enabled") == []


def test_accepted_checkpoint_contains_the_merged_adapter(adapted):
    """Only the layers of the adapter differ from the base checkpoint, and the result can be adapted again."""
    folder, runs, _, _ = adapted
    low, base = (load_base(find_checkpoint(runs, name).folder) for name in ("low", "base"))
    new, old = (load_file(one.path / "model.safetensors") for one in (low, base))
    assert new.keys() == old.keys()
    changed = {name for name in new if not new[name].equal(old[name])}
    assert changed == {
        f"h.1.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    again = Adaptation(
        low,
        adaptation_settings(low, ["threads=1"]),
        load_corpus(text(folder)),
        load_corpus(folder / "new.txt"),
        0.15,
    )
    assert (
        again.evaluate()[0].loss
        < event_data(RunFolder(runs, "low"), "run.started")[0]["settings"]["new_loss"]
    )


@pytest.mark.parametrize("name", ["full", "low"])
def test_resumed_run_repeats_the_uninterrupted_run(adapted, name):
    """All values from iteration 30 on are identical, and the run verifies and replays."""
    _, runs, _, _ = adapted
    folder = RunFolder(runs, name)
    before = {c["iter_num"]: c for c in event_data(folder, "context.recorded") if c["hook"] == "batch"}
    last = folder.checkpoint("resume-00000059")
    last.rename(last.with_name("gone"))
    done = run(runs, "adapt", "--run", name, "--resume")
    last.with_name("gone").rename(last)
    assert done.exit_code == 0
    after = [c for c in event_data(folder, "context.recorded", 2) if c["hook"] == "batch"]
    assert [c["iter_num"] for c in after] == list(range(30, 60))
    for context in after:
        was = before[context["iter_num"]]
        assert (context["given"], context["measured"]) == (was["given"], was["measured"])
    assert replay_run(folder, processes=1).identical
    assert verify_run(folder).sound
    assert "already complete: 60 of 60 steps" in run(runs, "adapt", "--run", name, "--resume").stderr
    assert folder.last_attempt() == 2


def test_rollback_is_recorded_and_restores_the_checkpoint(adapted):
    """A large drift restores the weights, with all weights and with an adapter."""
    _, runs, adapt, _ = adapted
    far = ["--set", "watchdog.warn=1e-6", "--set", "watchdog.rollback=1e-6", "--set", "watchdog.every=5"]
    for name, layers in (("back", []), ("back-low", ["--lora", "h.0.mlp.*"])):
        done = run(runs, *adapt, "--run", name, *layers, *far, "--set", "learning_rate=0.01", "--z", "-9")
        assert done.exit_code == 0
        back = event_data(RunFolder(runs, name), "rollback.performed")
        assert len(back) == 12
        assert all(event["drift"] > 0 and event["decision_id"] for event in back)
        checkpoint = RunFolder(runs, name).checkpoint("resume-00000059")
        restored = load_file(checkpoint / "model.safetensors")
        base = load_file(find_checkpoint(runs, "base").folder / "model.safetensors")
        plain = {key.replace(".inner.", "."): value for key, value in restored.items()}
        assert all(plain[key].equal(value) for key, value in base.items())
        assert not any(value.any() for key, value in restored.items() if key.endswith(".b"))
    assert len(event_data(RunFolder(runs, "back-low"), "adapter.reverted")) == 10 + 12
    assert all(event["identical"] for event in event_data(RunFolder(runs, "back-low"), "adapter.reverted"))


def test_bad_input_raises_one_line_and_creates_no_run(adapted, tmp_path):
    """Each error names what is accepted, and no run folder is created."""
    folder, runs, adapt, _ = adapted
    (tmp_path / "none.txt").write_bytes(b"")
    (tmp_path / "bins").mkdir()
    for split in ("train", "val"):
        (tmp_path / "bins" / f"{split}.bin").write_bytes(b"\1\0" * 200)
    bare = [*adapt[:3], "--run", "bad"]
    new = ["--data", str(folder / "new.txt")]
    cases = (
        (RunError, "nobody: run not found", ["adapt", "--from", "nobody", *new]),
        (
            BadInputError,
            "has no signed checkpoint 'acepted-00000119'",
            [*bare, *new, "--checkpoint", "acepted-00000119"],
        ),
        (DataError, "no text in it", [*bare, "--data", str(tmp_path / "none.txt")]),
        (DataError, "give text of the same kind", [*bare, "--data", str(tmp_path / "bins")]),
        (BadInputError, "did you mean 'h.0.mlp.c_fc'", [*bare, *new, "--lora", "h.0.mlp.cfc"]),
        (PolicyError, "did you mean 'adapt'", [*bare, *new, "--policy", "adpt"]),
        (BadInputError, "were made with n_embd=16", [*bare, *new, "--set", "n_embd=32"]),
        (BadInputError, "adapt requires --from RUN", ["adapt", *new]),
        (
            BadInputError,
            "nothing knows how to train it again",
            ["whatif", "full", "--set", "gate.z=2", "--rerun"],
        ),
        (RunError, "was not started by `ockham adapt`", ["adapt", "--resume", "--run", "base"]),
        (DataError, "pass familiar text with --familiar", ["adapt", "--from", "full", *new, "--run", "bad"]),
    )
    for error, message, words in cases:
        with pytest.raises(error, match=message.replace("(", r"\(")) as caught:
            run(runs, *words)
        assert caught.value.exit_status == 2
        assert "\n" not in str(caught.value)
        assert not (runs / "bad").exists()
    away = folder / "text.txt"
    away.rename(folder / "away.txt")
    with pytest.raises(DataError, match=r"no data at .*; pass other familiar text with --familiar PATH"):
        run(runs, *bare, *new)
    (folder / "away.txt").rename(away)


def test_unaccepted_checkpoint_requires_its_id(adapted):
    """Without --checkpoint only an accepted checkpoint is used."""
    folder, runs, adapt, _ = adapted
    words = ["--set", "memory.quality_fraction=0.01", "--run", "refused"]
    assert run(runs, *adapt, *words).exit_code == 0
    new = ["--data", str(folder / "new.txt"), "--familiar", str(folder / "text.txt"), "--run", "from-refused"]
    with pytest.raises(RunError, match="--checkpoint resume-00000059"):
        run(runs, "adapt", "--from", "refused", *new)
    named = ["--checkpoint", "resume-00000059", "--set", "max_iters=5", "--set", "threads=1"]
    assert run(runs, "adapt", "--from", "refused", *new, *named).exit_code == 0
