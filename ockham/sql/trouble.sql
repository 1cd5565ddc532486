-- Are events missing, or values not finite? Micro-batches of rank 0, and missing events of all ranks.
select run_id, 'gap' as kind, sum(missing)::bigint as n from log_gaps where kind <> 'recovered' and signed group by all
union all select run_id, 'not finite', count(*) from current_batches where not finite group by all
union all select run_id, 'no end in the log', 1 from runs where state = 'UNFINISHED'
union all select run_id, 'plugin failed', count(distinct attempt) from events  -- each ends with its first; every rank writes it
    where type = 'ockham.plugin.failed.v1' and signed group by all
order by run_id, kind
