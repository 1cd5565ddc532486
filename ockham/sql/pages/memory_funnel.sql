-- How far do candidates come?
-- run: run ID
with m as (select failed_gate from memory_decisions where run_id = $run and not superseded and "rank" = 0)
select * from (values
    (1, 'evaluated', (select count(*) from m)),
    (2, 'finite', (select count(*) from m where failed_gate is distinct from 'finite')),
    (3, 'good enough', (select count(*) from m where failed_gate is null or failed_gate in ('complexity', 'efficiency', 'baseline'))),
    (4, 'simple enough', (select count(*) from m where failed_gate is null or failed_gate in ('efficiency', 'baseline'))),
    (5, 'accepted', (select count(*) from m where failed_gate is null))
) t(step, gate, candidates) order by step
