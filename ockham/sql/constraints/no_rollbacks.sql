-- text: The weights are never rolled back to the anchor
-- use: training must be stable
-- op: ==
-- threshold: 0
-- unit: rollbacks
-- min_n: 1
select (select count(*) from rollbacks where counted and run_id = $candidate) as value, batches as n
from run_summary where run_id = $candidate
