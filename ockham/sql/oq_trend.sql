-- How does the Occam Quotient change, relative to the first candidate with a finite quotient?
with candidates as (
    select run_id, attempt, sequence, iter_num, loss, occam_quotient, accepted, failed_gate, shadow, plugin
    from memory_decisions where counted
), firsts as (
    select run_id, plugin, arg_min(occam_quotient, (attempt, sequence)) as first_quotient
    from candidates where isfinite(occam_quotient) group by run_id, plugin
)
select c.run_id, c.plugin, c.iter_num, c.loss, c.occam_quotient, c.occam_quotient / f.first_quotient - 1 as gain,
    c.accepted and not c.shadow as accepted,
    c.failed_gate, c.shadow
from candidates c left join firsts f using (run_id, plugin) order by c.run_id, c.plugin, c.attempt, c.sequence
