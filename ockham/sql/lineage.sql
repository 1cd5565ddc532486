-- Which decisions led to these weights?
-- snapshot: name of the checkpoint's folder
select c.run_id, c.snapshot_id, c.kind, c.iter_num, d.decision_id, d.reason_code, d.observed, d.threshold,
    c.weights_sha256, c.log_size, c.log_root, c.policy_revision
from (select c.*, r.policy_revision from checkpoints c join runs r using (run_id) where c.snapshot_id = $snapshot and c.signed) c
left join decisions d on d.decision_id = c.decision_id and d.signed order by c.run_id
