-- How many candidates pass each gate of the memory?
-- run: run ID
with m as (select failed_gate from memory_decisions where run_id = $run and counted)
select * from (values
    (1, 'evaluated', (select count(*) from m)),
    (2, 'finite', (select count(*) from m where failed_gate is distinct from 'finite')),
    (3, 'passed quality', (select count(*) from m where failed_gate is null or failed_gate in ('complexity', 'efficiency', 'baseline'))),
    (4, 'passed complexity', (select count(*) from m where failed_gate is null or failed_gate in ('efficiency', 'baseline'))),
    (5, 'accepted', (select count(*) from m where failed_gate is null))
) t(step, gate, candidates) order by step
