-- Decisions that took effect: signed, not superseded, of rank 0, by plugins that act. Shadow plugins are not in it.
-- decision_id: ID of the decision
select * exclude ("rank", shadow, superseded, signed, counted, acting) from decisions where acting
