-- Every policy that a run was under, as canonical JSON whose digest is the policy revision.
-- policy_revision: sha256: and the digest of the bytes
-- policy: name
-- content: canonical JSON
select run_id, policy_revision, policy, content from raw_policies
