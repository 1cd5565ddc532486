-- What does a decision record claim?
-- id: ID of the decision record
select * from odr_constraints where odr_id = $id order by constraint_id
