-- Every knob change of a plugin, one row per knob.
-- decision_id: ID of the decision that explains it
-- field: name of the knob
-- before: value before, as JSON
-- after: value after, as JSON
-- before_value: value before as a number; null for other types
-- after_value: value after as a number; null for other types
select decision_id, run_id, attempt, rank, sequence, time, iter_num, micro_step, hook, plugin, shadow, superseded, signed,
    counted, acting,
    action, reason_code, c.field as field, c.before as before, c.after as after, c.before_value as before_value,
    c.after_value as after_value
from (select *, unnest(changes) as c from decisions)
