-- text: The number of checkpoints that the memory accepts is at most {value}
-- use: storage is limited
-- op: <=
-- threshold: value
-- unit: checkpoints
-- min_n: 1
-- parameter value: count; number of accepted checkpoints; example 10
select accepted as value, evaluations as n from run_summary where run_id = $candidate
