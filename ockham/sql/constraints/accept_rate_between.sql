-- text: The memory accepts between {low} and {high} of the evaluations
-- use: the quality bar must be neither free nor out of reach
-- op: between
-- threshold: low high
-- unit: ratio
-- min_n: 1
-- parameter low: share; lowest share; example 0.05
-- parameter high: share; highest share; example 0.15
select accept_rate as value, evaluations as n from run_summary where run_id = $candidate
