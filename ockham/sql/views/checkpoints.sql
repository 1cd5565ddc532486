-- Every saved checkpoint: its decision, its digest, and the tree head in its metadata.
-- snapshot_id: name of its folder below checkpoints/; for kind trainer only an ID
-- kind: accepted, resume, rollback, anchor, or trainer: written by another library outside of the run folder
-- folder: folder of kind trainer, as the trainer named it; it may have been deleted since
-- decision_id: the decision that accepted it; only kind accepted has one
-- weights_sha256: digest of the weights only; for kind trainer of the file of weights
-- log_size: events in the log when it was saved
-- log_root: root hash of the log when it was saved
-- megabytes: size of its files, 1e6 bytes
-- approved_by: first person who approved these weights; the view people contains all approvals
-- pruned: true if a signed event reports that it was deleted because newer checkpoints replaced it
select e.run_id, e.attempt, e.rank, e.sequence, e.time, e.iter_num, e.data ->> '$.snapshot_id' as snapshot_id,
    e.data ->> '$.kind' as kind, e.data ->> '$.folder' as folder, e.data ->> '$.decision_id' as decision_id,
    e.data ->> '$.weights_sha256' as weights_sha256, (e.data ->> '$.log_size')::bigint as log_size,
    e.data ->> '$.log_root' as log_root,
    list_sum((e.data -> '$.files[*].bytes')::bigint[])::double / 1e6 as megabytes,
    exists (select 1 from events p where p.type = 'ockham.checkpoint.pruned.v1' and p.run_id = e.run_id
        and p.data ->> '$.snapshot_id' = e.data ->> '$.snapshot_id' and p.attempt >= e.attempt
        and p.signed) as pruned,
    a.approved_by, e.superseded, e.signed, e.counted
from events e left join (
    select weights_sha256, arg_min(person, time) as approved_by from people
    where kind = 'checkpoint.approved' and signed group by weights_sha256
) a on a.weights_sha256 = e.data ->> '$.weights_sha256'
where e.type = 'ockham.checkpoint.saved.v1'
