-- text: The relative drift from the anchor stays below {value}
-- use: the weights must stay close to the anchor
-- op: <
-- threshold: value
-- unit: ratio
-- min_n: 1
-- parameter value: ratio; norm of the difference over norm of the anchor; example 0.4
select max(complexity_cost) as value, count(complexity_cost) as n from measured_gauges where run_id = $candidate
