-- How far were values above the limiter's caps, in 100 bins?
-- run: run ID
-- low: first iteration
-- high: last iteration
with sized as (select greatest(1, ceil(($high - $low + 1) / 100.0))::bigint as width)
select iter_num // width * width as iter, reason_code, count(*) as hits, median(overshoot) as typical, max(overshoot) as worst
from limiter_decisions, sized where run_id = $run and counted and isfinite(overshoot) and iter_num between $low and $high
group by 1, reason_code order by 1, reason_code
