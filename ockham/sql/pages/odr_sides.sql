-- Which runs, up to which event, does a decision record rest on?
-- id: of the record
select side, run_id, attempt, "rank", through_sequence, root, decision_id from odr_evidence where odr_id = $id order by side
