-- text: The number of checkpoints that the memory accepts is at least {value}
-- use: the run must give a checkpoint that can be used
-- op: >=
-- threshold: value
-- unit: checkpoints
-- min_n: 1
-- parameter value: count; number of accepted checkpoints; example 1
select accepted as value, evaluations as n from run_summary where run_id = $candidate
