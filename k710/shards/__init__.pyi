from .run import finish_shards as finish_shards, make_shards as make_shards
from .summary import ShardProgress as ShardProgress, ShardSummary as ShardSummary
from .verify import Fault as Fault, Verified as Verified, verify_shards as verify_shards
