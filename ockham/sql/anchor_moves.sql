-- When did the anchor move? Each event anchor.consolidated once, with the decision that allowed it.
select e.run_id, e.attempt, e.iter_num, (e.data ->> '$.drift')::double as drift, (e.data ->> '$.val_loss')::double as val_loss,
    e.data ->> '$.snapshot_id' as snapshot_id, d.plugin, d.reason_code, e.data ->> '$.decision_id' as decision_id
from events e left join acting_decisions d on d.decision_id = e.data ->> '$.decision_id'
where e.type = 'ockham.anchor.consolidated.v1' and e.counted order by e.run_id, e.iter_num, e.sequence
