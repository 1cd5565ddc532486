-- What are the newest decisions, of one plugin or of all?
-- run: run ID
-- low: first iteration
-- high: last iteration
-- plugin: name of the plugin; empty for all
-- action: action of the plugin; empty for all
-- shadow: true for decisions in shadow, false for the others; empty for all
-- The newest decisions are found by their position. All other columns are read for these only.
with newest as materialized (
    select attempt, sequence from decisions
    where run_id = $run and counted and iter_num between $low and $high
        and ($plugin = '' or plugin = $plugin) and ($action = '' or action = $action)
        and ($shadow = '' or shadow::varchar = $shadow)
    order by attempt desc, sequence desc limit 100
)
select iter_num, plugin, action, reason_code, observed, threshold, margin,
    list_transform(changes, lambda c: c.field || ': ' || coalesce(format('{:.5g}', try_cast(c.before as double)), c.before)
        || ' -> ' || coalesce(format('{:.5g}', try_cast(c.after as double)), c.after)) as changes, shadow, sequence, decision_id
from decisions
where run_id = $run and counted and (attempt, sequence) in (select attempt, sequence from newest)
order by attempt desc, sequence desc
