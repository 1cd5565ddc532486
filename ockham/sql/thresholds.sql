-- What would the update rate have been at other fixed thresholds?
select run_id, t as threshold, avg((observed >= t)::int) as update_rate, count(*) as batches
from gate_decisions, (select tenths / 10.0 as t from (select unnest(range(10, 51)) as tenths))
where not superseded and signed and rank = 0 and isfinite(observed) group by all order by run_id, t
