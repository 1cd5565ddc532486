-- Which iterations does a run have?
-- run: run ID
select min(iter_num) as first, max(iter_num) as last, count(*) as batches
from contexts where run_id = $run and hook = 'batch' and not superseded and signed and rank = 0
