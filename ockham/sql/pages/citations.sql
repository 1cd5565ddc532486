-- Which decision records cite this decision?
-- id: decision ID
select odr_id, side from odr_evidence where decision_id = $id order by odr_id
