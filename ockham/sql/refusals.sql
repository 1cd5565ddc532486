-- Which gate of the memory rejects the most candidates? Only a memory that acts, not in shadow.
select run_id, coalesce(failed_gate, 'accepted') as gate, count(*) as n,
    count(*) / sum(count(*)) over (partition by run_id) as share
from memory_decisions where acting group by run_id, gate order by run_id, n desc, gate
