-- What would the update rate have been at other fixed thresholds? The losses are those of the recorded run.
select run_id, t as threshold, avg((task_loss >= t)::int) as update_rate, count(*) as batches
from current_batches, (select tenths / 10.0 as t from (select unnest(range(10, 51)) as tenths))
where finite group by all order by run_id, t
