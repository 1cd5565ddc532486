-- Which plugin decided what when? Decisions in shadow are included.
-- run: run ID
-- low: first iteration
-- high: last iteration
with sized as (select greatest(1, ceil(($high - $low + 1) / 100.0))::bigint as width)
select iter_num // width * width as iter, min(width) as width, plugin, action, count(*) as decisions
from decisions, sized
where run_id = $run and counted and iter_num between $low and $high
group by iter_num // width * width, plugin, action order by iter, plugin
