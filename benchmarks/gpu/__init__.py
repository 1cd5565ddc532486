"""All measurements that need a GPU, in one command that can be interrupted and continued."""
