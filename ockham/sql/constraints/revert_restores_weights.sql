-- text: Disabling the adapter always restores the base weights to the last bit
-- use: an adaptation must leave no trace
-- op: ==
-- threshold: 0
-- unit: reverts
-- min_n: 1
select count(*) filter (not (data ->> '$.identical')::boolean) as value, count(*) as n
from events where type = 'ockham.adapter.reverted.v1' and counted and run_id = $candidate
