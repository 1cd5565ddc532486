-- text: The adapter adds less than {value} of the base model's parameters
-- use: an adapter must stay small
-- op: <
-- threshold: value
-- unit: ratio
-- min_n: 1
-- parameter value: share; share of the base parameters; example 0.05
select max((data ->> '$.added_params')::double / (data ->> '$.model_params')::double) as value, count(*) as n
from events where type = 'ockham.adapter.enabled.v1' and counted and run_id = $candidate
