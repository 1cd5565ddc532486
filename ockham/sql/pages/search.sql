-- Which runs, decisions, checkpoints and decision records match a text?
-- text: text in lower case; digests and decision IDs are matched from their start, with at least 8 characters
with files as (
    select run_id, data ->> '$.snapshot_id' as snapshot_id, data ->> '$.weights_sha256' as weights, unnest(from_json(data -> '$.files', '[{"name": "VARCHAR", "sha256": "VARCHAR"}]')) as file
    from events where type = 'ockham.checkpoint.saved.v1'
)
select 1 as place, 'run' as kind, run_id as name, run_id, state as detail from runs where contains(run_id, $text)
union all select 2, 'checkpoint', snapshot_id, run_id, any_value(file.name || ' ' || file.sha256) from files
where contains(snapshot_id, $text) or (length($text) >= 8 and (starts_with(weights, $text) or starts_with(file.sha256, $text)))
group by snapshot_id, run_id
union all select 3, 'decision', decision_id, run_id, plugin || ' ' || action || ' at iteration ' || iter_num from decisions
where length($text) >= 8 and starts_with(decision_id, $text)
union all select 4, 'decision record', odr_id, null, title from odrs where contains(lower(odr_id), $text) or contains(lower(title), $text)
order by place, name, run_id limit 200
