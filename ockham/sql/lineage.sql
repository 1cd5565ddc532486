-- Which decisions led to these weights? One row for each attempt that saved the checkpoint.
-- snapshot: name of the checkpoint's folder
with loaded as (
    select run_id, attempt, data ->> '$.policy_revision' as policy_revision
    from events where type = 'ockham.policy.loaded.v1' and signed and rank = 0
), chosen as (
    -- A resume can load another policy. The newest one up to the attempt of the checkpoint was in force.
    select c.run_id, c.attempt, c.snapshot_id, arg_max(l.policy_revision, l.attempt) as policy_revision
    from checkpoints c left join loaded l on l.run_id = c.run_id and l.attempt <= c.attempt
    where c.snapshot_id = $snapshot and c.signed group by c.run_id, c.attempt, c.snapshot_id
)
select c.run_id, c.snapshot_id, c.kind, c.attempt, c.iter_num, c.superseded, d.decision_id, d.reason_code, d.observed,
    d.threshold, c.weights_sha256, c.log_size, c.log_root, p.policy_revision
from checkpoints c join chosen p on p.run_id = c.run_id and p.attempt = c.attempt and p.snapshot_id = c.snapshot_id
left join decisions d on d.decision_id = c.decision_id and d.signed where c.signed order by c.run_id, c.attempt
