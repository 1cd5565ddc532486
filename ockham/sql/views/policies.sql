-- Every policy of a run, as canonical JSON. Its digest is the policy revision.
-- policy_revision: sha256: followed by the digest of the bytes
-- policy: name of the policy
-- content: canonical JSON
select run_id, policy_revision, policy, content from raw_policies
