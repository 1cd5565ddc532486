-- What did people do at the iteration of a decision, and who approved the weights that it accepted?
-- run: run ID
-- id: decision ID
select p.time, p.iter_num, p.kind as person_event, p.person, p.reason, coalesce(p.changes, p.subject) as subject, p.reason_code, p.recorded_in, p.verifier_key
from people p where p.signed and (
    (p.run_id = $run and p.iter_num = (select any_value(iter_num) from decisions where decision_id = $id))
    or (p.kind = 'checkpoint.approved' and p.weights_sha256 in (select weights_sha256 from checkpoints where decision_id = $id and signed)))
order by p.time, p.event_id
