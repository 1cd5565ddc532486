-- text: Every batch has a finite loss
-- use: training must be stable
-- op: ==
-- threshold: 0
-- unit: batches
-- min_n: 1
select count(*) filter (not finite) as value, count(*) as n from current_batches where run_id = $candidate
