"""Where each clip is: by folders and archives, the ledger, and what shard runs found."""
