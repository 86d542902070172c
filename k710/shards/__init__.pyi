from .run import finish_shards as finish_shards
from .run import make_shards as make_shards
from .summary import ShardProgress as ShardProgress
from .summary import ShardSummary as ShardSummary
from .verify import Fault as Fault
from .verify import Verified as Verified
from .verify import verify_shards as verify_shards
