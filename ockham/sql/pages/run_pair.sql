-- In what do two runs differ?
-- run: ID of the first run
-- other: ID of the second run
select a.run_id, s.policy, s.state, s.batches, s.updated_batches, s.optimizer_steps, s.update_rate, s.evaluations, s.accept_rate, s.val_loss, s.best_val_loss,
    s.compute_saved, s.compute_saved_low, s.compute_saved_high, s.compute_saved_reason, s.nonfinite, a.data, a.data_sha256, a.seed, a.model_params, a.max_iters, a.policy_revision, a.git_commit
from runs a join run_summary s using (run_id) where a.run_id in ($run, $other) order by a.run_id = $other
