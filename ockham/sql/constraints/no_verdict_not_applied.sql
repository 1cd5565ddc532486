-- text: The trainer applies every verdict of the chain
-- use: the trainer must do what the chain decides
-- op: ==
-- threshold: 0
-- unit: verdicts
-- min_n: 1
select (select count(*) from events where type = 'ockham.verdict.not_applied.v1' and counted and run_id = $candidate) as value, batches as n
from run_summary where run_id = $candidate
