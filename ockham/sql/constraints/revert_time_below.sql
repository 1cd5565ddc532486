-- text: Disabling the adapter takes less than {value} in {quantile} of the cases
-- use: an adaptation must be revertible at once
-- op: <
-- threshold: value
-- unit: ms
-- min_n: 20
-- parameter value: ms; time; example 10
-- parameter quantile: quantile; share of the cases, 1 is all; default 0.99
select quantile_cont((data ->> '$.seconds')::double, $quantile) * 1000 as value, count(*) as n
from events where type = 'ockham.adapter.reverted.v1' and counted and run_id = $candidate
