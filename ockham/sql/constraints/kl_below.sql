-- text: The KL divergence from the anchor stays below {value}
-- use: the output must stay close to the anchor
-- op: <
-- threshold: value
-- unit: nats/token
-- min_n: 1
-- parameter value: nats; KL divergence per token; example 0.5
select max(kl_to_anchor) as value, count(kl_to_anchor) as n from measured_gauges where run_id = $candidate
