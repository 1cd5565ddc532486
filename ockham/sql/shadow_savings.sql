-- What would the plugins in shadow mode have skipped, saved and accepted? Nothing of this happened. Their later decisions would have seen other losses.
with gates as (
    select run_id, avg((not updated)::int) as would_skip, count(*) as gate_decisions
    from gate_decisions where counted and shadow group by run_id
), memories as (
    select run_id, count(*) filter (accepted) as would_accept, count(*) filter (not accepted) as would_refuse
    from memory_decisions where counted and shadow group by run_id
), anchors as (
    select run_id, count(*) as would_move_anchor from decisions where counted and shadow and hook = 'on_evaluate' and action = 'ALLOW' group by run_id
)
select s.run_id, g.gate_decisions, g.would_skip, g.would_skip * s.backward_over_forward / (1 + s.backward_over_forward) as would_save_compute,
    m.would_accept, m.would_refuse, a.would_move_anchor
from run_summary s left join gates g using (run_id) left join memories m using (run_id) left join anchors a using (run_id)
where s.shadow_decisions > 0 order by s.run_id
