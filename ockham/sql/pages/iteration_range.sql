-- Which iterations does a run have?
-- run: run ID
select min(iter_num) as first, max(iter_num) as last, count(*) as batches
from current_batches where run_id = $run
