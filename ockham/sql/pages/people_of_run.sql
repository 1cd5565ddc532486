-- What did people do: notes, changed policies, stops, approvals, and refused requests?
-- run: run ID
select time, iter_num, kind as person_event, person, reason, coalesce(changes, subject) as subject, reason_code, recorded_in, verifier_key
from people where run_id = $run and signed order by time, event_id
