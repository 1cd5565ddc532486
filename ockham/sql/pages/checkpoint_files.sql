-- Which checkpoint files were saved, which decision accepted them, which records cite it, and who approved the weights?
-- run: run ID, or empty for all runs
with saved as (
    select run_id, attempt, "rank", "sequence", unnest(from_json(data -> '$.files', '[{"name": "VARCHAR", "sha256": "VARCHAR", "bytes": "BIGINT"}]')) as file
    from events where type = 'ockham.checkpoint.saved.v1' and ($run = '' or run_id = $run)
), cited as (
    select e.decision_id, string_agg(distinct e.odr_id, ', ' order by e.odr_id) as records from odr_evidence e
    where e.decision_id is not null group by e.decision_id
), approved as (
    -- An approval is about the weights, so copies of them in other runs are approved as well.
    select weights_sha256, string_agg(distinct person, ', ' order by person) as approved_by, arg_max(reason, time) as approval_reason
    from people where kind = 'checkpoint.approved' and counted and weights_sha256 is not null group by weights_sha256
)
select c.run_id, c.snapshot_id, s.file.name as file_name, s.file.sha256 as sha256, s.file.bytes::double / 1e6 as megabytes, c.kind, c.iter_num,
    c.decision_id, d.reason_code, d.observed, d.threshold, t.records, a.approved_by, a.approval_reason, c.pruned, c.superseded, c.signed, c.weights_sha256, c.folder, c.time
from checkpoints c join saved s using (run_id, attempt, "rank", "sequence")
left join decisions d on d.decision_id = c.decision_id and d.signed
left join cited t on t.decision_id = c.decision_id
left join approved a on a.weights_sha256 = c.weights_sha256
order by c.time desc, c.snapshot_id, file_name
