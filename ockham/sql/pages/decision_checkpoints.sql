-- Which checkpoints did a decision accept?
-- id: decision ID
select run_id, snapshot_id, weights_sha256, pruned from checkpoints where decision_id = $id and signed order by attempt, snapshot_id
