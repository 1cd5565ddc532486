-- text: The trainer waits less than {value} for the log
-- use: the log must not slow training
-- op: <
-- threshold: value
-- unit: s
-- min_n: 1
-- parameter value: seconds; sum of all waits; example 1
select sum((data ->> '$.blocked_seconds')::double) as value, count(*) as n
from events where type = 'ockham.run.finished.v1' and signed and "rank" = 0 and run_id = $candidate
