-- text: The skipped batches save at least {value} of the compute, as estimated from measured times
-- use: the gate must save compute; an estimate
-- op: >=
-- threshold: value
-- unit: ratio
-- min_n: 1
-- parameter value: share; share of the compute of always updating; example 0.2
select compute_saved as value, batches as n from run_summary where run_id = $candidate
