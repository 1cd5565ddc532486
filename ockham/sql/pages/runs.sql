-- Which runs exist, and what are their results?
select r.run_id, r.created, r.state, r.policy, s.batches, s.update_rate, s.evaluations, s.accepted, s.accept_rate,
    s.val_loss, s.best_val_loss, s.compute_saved, s.compute_saved_low, s.compute_saved_high, s.compute_saved_reason, s.unsigned_events, s.nonfinite, r.attempts, r.data, r.git_commit
from runs r join run_summary s using (run_id) order by r.created desc, r.run_id
