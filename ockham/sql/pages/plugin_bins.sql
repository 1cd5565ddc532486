-- Which plugin decided what when? Decisions in shadow, which change nothing, are rows of their own.
-- run: run ID
-- low: first iteration
-- high: last iteration
with sized as (select greatest(1, ceil(($high - $low + 1) / 100.0))::bigint as width)
select iter_num // width * width as iter, min(width) as width, plugin, action, shadow, count(*) as decisions
from decisions, sized
where run_id = $run and counted and iter_num between $low and $high
group by iter_num // width * width, plugin, action, shadow order by iter, plugin
