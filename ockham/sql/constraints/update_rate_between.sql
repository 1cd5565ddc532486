-- text: Between {low} and {high} of the batches with a finite loss are updated
-- use: the gate must hold its target
-- op: between
-- threshold: low high
-- unit: ratio
-- min_n: 1
-- parameter low: share; lowest share; example 0.5
-- parameter high: share; highest share; example 0.7
select update_rate as value, finite_batches as n from run_summary where run_id = $candidate
