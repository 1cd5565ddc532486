-- What did the plugins other than the gate decide about batches?
-- run: run ID
select d.plugin, d.action, d.reason_code, d.shadow, count(*) as n, min(d.iter_num) as first_iter, max(d.iter_num) as last_iter,
    max(d.observed) filter (isfinite(d.observed)) as highest, any_value(r.meaning) as meaning
from decisions d left join plugin_uses u on u.run_id = d.run_id and u.policy_revision = d.policy_revision and u.plugin = d.plugin
left join reason_codes r on r.plugin = u.use and r.reason_code = d.reason_code
where d.run_id = $run and d.counted and d.hook in ('on_batch_start', 'on_gradients', 'on_batch_end') and coalesce(u.use, '') <> 'gate'
group by d.plugin, d.action, d.reason_code, d.shadow order by n desc, d.plugin, d.action, d.reason_code, d.shadow
