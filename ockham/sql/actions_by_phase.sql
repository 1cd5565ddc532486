-- Which actions did each plugin take in each quarter of a run? Plugins in shadow are not counted.
with lengths as (
    -- A quarter of the planned steps, also in a run that ended early.
    select b.run_id, greatest(max(coalesce(r.max_iters, 0)), max(b.iter_num) + 1) as steps
    from current_batches b join runs r using (run_id) group by b.run_id
), numbered as (
    select d.run_id, least(d.iter_num * 4 // l.steps, 3) + 1 as quarter, d.iter_num, d.plugin, d.action
    from acting_decisions d join lengths l using (run_id)
)
select run_id, quarter, plugin, action, count(*) as n,
    count(*) / sum(count(*)) over (partition by run_id, quarter, plugin) as share_of_plugin,
    min(iter_num) as first_iter, max(iter_num) as last_iter
from numbered group by run_id, quarter, plugin, action order by run_id, quarter, plugin, n desc, action
