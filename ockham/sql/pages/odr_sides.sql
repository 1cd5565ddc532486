-- Which runs are the evidence of a decision record, and up to which event?
-- id: ID of the decision record
select side, position, run_id, attempt, "rank", through_sequence, root, decision_id from odr_evidence where odr_id = $id order by side, position
